//! How a device treats its events.

use super::DeviceBuilder;
use crate::events::EventOverflow;

impl DeviceBuilder {
    /// Events that may wait for the server; default 10,000, at least 1. With a
    /// [folder](Self::journal_dir) they are on disk.
    pub fn event_queue_entries_max(mut self, entries: usize) -> Self {
        self.event_bounds.entries_max = entries.max(1);
        self
    }

    /// Bytes of events that may wait for the server (160 added for each); default 16 MiB. The
    /// file may be somewhat over twice as large before it is compacted.
    pub fn event_queue_bytes_max(mut self, bytes: usize) -> Self {
        self.event_bounds.bytes_max = bytes;
        self
    }

    /// What happens with a new event when the queue is full. Default: it is refused.
    pub fn event_queue_overflow(mut self, overflow: EventOverflow) -> Self {
        self.event_settings.overflow = overflow;
        self
    }

    /// Events on their way at a time; default 8, at least 1. The server may allow fewer.
    pub fn events_in_flight_max(mut self, events: u16) -> Self {
        self.events_in_flight_max = events.max(1);
        self
    }

    /// Whether an event counts as stored only when the server says so with an `eva`. Default:
    /// no, its acknowledgement by MQTT suffices, for the server gives that after it has stored
    /// the event. Of use with a broker between, whose acknowledgement says only that the broker
    /// has it.
    ///
    /// An event without an `eva` is sent again after 10 s, then with growing waits, five times in
    /// all. Gauges and events with type code or number 0 get no `eva`.
    pub fn await_eva(mut self, await_eva: bool) -> Self {
        self.event_settings.await_eva = await_eva;
        self
    }

    /// The type codes that the server keeps as gauges: only the last value of each. Default: 44,
    /// the health check. Of those that wait to be sent only the newest is kept, too.
    pub fn gauge_type_codes(mut self, type_codes: impl IntoIterator<Item = u32>) -> Self {
        self.event_settings.gauges = type_codes.into_iter().collect();
        self
    }

    /// The type code of events about resources of the twin; default 0.
    pub fn report_type_code(mut self, type_code: u32) -> Self {
        self.event_settings.report_type_code = type_code;
        self
    }
}
