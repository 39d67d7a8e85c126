//! Operations on events.

use crate::access::Caller;
use crate::audit::AuditEntry;
use crate::device::DeviceIdentity;
use crate::event::{AddedEvent, DeviceEvent, EventKey, EventToStore, EventTold, EventTypes, NewEvent};
use crate::id::{DeviceId, DeviceKey, OrgId, RecordNumber};
use crate::operation::{Abort, Operation};
use crate::port::{Need, ReadSet, Transaction, Turn};
use crate::twin::{TwinResource, demand_room, report_all};
use crate::usage::Usage;

/// A device tells an event (device-events).
pub struct EventAdd {
    /// The device.
    pub device: DeviceIdentity,
    /// The event, validated.
    pub event: NewEvent,
    /// Whether its type is a gauge's.
    pub is_gauge: bool,
    /// A broker has acknowledged it, so that it would be lost if it were refused.
    pub is_acknowledged: bool,
}

impl EventAdd {
    /// Whether anything tells the event from others: one without a number is
    /// like no other (device-events "Duplicates").
    fn is_counted(&self) -> bool {
        self.event.dev_event_id != 0 && !self.is_gauge
    }

    /// The resources that the twin has, if the event reports any and there is room for them.
    fn known_resources(&self, tx: &mut dyn Transaction) -> Result<Vec<TwinResource>, Abort> {
        if self.event.reported.is_empty() {
            return Ok(Vec::new());
        }
        demand_room(tx, &self.device, self.event.reported.iter().map(|one| one.resource.as_str()))
    }
}

impl Operation for EventAdd {
    type Output = AddedEvent;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.device.org)
    }

    fn adds_to(&self) -> Option<(OrgId, Option<DeviceKey>)> {
        // A gauge takes the place of the one before it.
        let adds = !self.is_gauge || !self.event.reported.is_empty();
        (adds && !self.is_acknowledged).then_some((self.device.org, Some(self.device.device)))
    }

    fn bytes(&self) -> usize {
        self.event.bytes()
    }

    fn read_set(&self, reads: &mut ReadSet) {
        if self.is_counted() {
            let (device, dev_event_id) = (self.device.device, self.event.dev_event_id);
            match self.event.dev_timestamp {
                Some(dev_timestamp) => reads.events.push((device, EventKey { dev_event_id, dev_timestamp })),
                None => reads.events_of_now.push((device, dev_event_id)),
            }
        }
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<AddedEvent, Abort> {
        let Self { device, event, is_gauge, .. } = self;
        if *is_gauge {
            let known = self.known_resources(tx)?;
            tx.gauge_put(device, event.type_code, &event.payload)?;
            report_all(tx, device, &event.reported, known)?;
            return Ok(AddedEvent::Gauge);
        }
        // One without a time has that of the server (device-events).
        let key = EventKey {
            dev_event_id: event.dev_event_id,
            dev_timestamp: event.dev_timestamp.unwrap_or_else(|| tx.now()),
        };
        // What reports nothing has nothing more to decide: whether it is stored shows when it is.
        let is_to_decide = self.is_counted() && !event.reported.is_empty();
        if is_to_decide && tx.event_is_stored(device.device, key)? {
            return Ok(AddedEvent::Duplicate);
        }
        let known = self.known_resources(tx)?;
        let stored = EventToStore {
            type_code: event.type_code,
            key,
            correlation: event.correlation,
            payload: event.payload.clone(),
            told: EventTold::Event,
        };
        if !tx.event_insert(device, &stored)? {
            return Ok(AddedEvent::Duplicate);
        }
        tx.usage_add(device.org, Usage::event(event.payload.len()))?;
        report_all(tx, device, &event.reported, known)?;
        Ok(AddedEvent::Stored)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// A caller asks for the events after those that it was given last.
pub struct EventNext {
    /// Who asks.
    pub caller: Caller,
    /// Of which device; of all if there is none.
    pub device: Option<DeviceId>,
    /// Of which types.
    pub types: EventTypes,
    /// How many at most.
    pub limit: u32,
}

impl Operation for EventNext {
    type Output = Vec<DeviceEvent>;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Vec<DeviceEvent>, Abort> {
        let offset: RecordNumber = tx.event_offset(self.caller.id, self.device)?;
        let events = tx.events_after(self.caller.org, self.device, &self.types, offset, self.limit)?;
        if let Some(last) = events.last() {
            tx.event_offset_put(self.caller.id, self.device, last.id)?;
        }
        Ok(events)
    }

    /// Reading on is no change.
    fn entries(&self, _: &Vec<DeviceEvent>) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Asks how far a caller has read.
pub struct EventOffset {
    /// Who asks.
    pub caller: Caller,
    /// The events of which device; of all if there is none.
    pub device: Option<DeviceId>,
}

impl Operation for EventOffset {
    type Output = RecordNumber;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<RecordNumber, Abort> {
        Ok(tx.event_offset(self.caller.id, self.device)?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Remembers how far a caller has read, if nobody has read on for it since. Answers whether it did.
pub struct EventOffsetMove {
    /// Who has read.
    pub caller: Caller,
    /// The events of which device; of all if there is none.
    pub device: Option<DeviceId>,
    /// How far it had read before.
    pub from: RecordNumber,
    /// How far it has read now.
    pub to: RecordNumber,
}

impl Operation for EventOffsetMove {
    type Output = bool;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<bool, Abort> {
        let is_there = tx.event_offset(self.caller.id, self.device)? == self.from;
        if is_there {
            tx.event_offset_put(self.caller.id, self.device, self.to)?;
        }
        Ok(is_there)
    }

    fn entries(&self, _: &bool) -> Vec<AuditEntry> {
        Vec::new()
    }
}
