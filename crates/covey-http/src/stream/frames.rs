//! Changes as they are sent, written once for all streams that tell of them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;

use bytes::Bytes;
use covey_api::Record as RecordView;
use covey_core::id::RecordNumber;
use covey_core::record::Record;
use tokio::sync::Semaphore;

/// How many changes are remembered as they are sent. Streams that are up to
/// date tell of the same ones at about the same time.
const REMEMBERED: usize = 64;
/// How many bytes the changes may take that are remembered in the form in which streams send them.
/// Limit for the server: the oldest are made anew where they are needed.
const REMEMBERED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The changes that were told last.
pub(crate) struct Frames {
    remembered: Mutex<Remembered>,
    /// Changes are written by half of the cores at most: many streams that read the past together
    /// would keep all of them busy, and whoever calls would wait behind every one of those.
    turns: Semaphore,
}

#[derive(Default)]
struct Remembered {
    frames: VecDeque<(RecordNumber, Frame)>,
    bytes: usize,
}

/// A change as it is sent.
#[derive(Clone)]
pub(super) struct Frame {
    /// As a server-sent event.
    pub(super) event: Bytes,
    /// As JSON, which is a part of that.
    pub(super) json: Bytes,
}

impl Default for Frames {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self { remembered: Mutex::default(), turns: Semaphore::new((cores / 2).max(1)) }
    }
}

impl Frames {
    /// A change as it is sent.
    pub(super) async fn of(&self, record: &Record) -> Frame {
        if let Some(frame) = self.known(record.number) {
            return frame;
        }
        // Nobody closes it.
        let _turn = self.turns.acquire().await;
        // Another stream may have written it meanwhile.
        if let Some(frame) = self.known(record.number) {
            return frame;
        }
        let frame = Frame::of(record);
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).add(record.number, frame.clone());
        frame
    }

    fn known(&self, number: RecordNumber) -> Option<Frame> {
        let known = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        known.frames.iter().rev().find(|(known, _)| *known == number).map(|(_, frame)| frame.clone())
    }
}

impl Remembered {
    fn add(&mut self, number: RecordNumber, frame: Frame) {
        self.bytes += frame.event.len();
        self.frames.push_back((number, frame));
        while self.frames.len() > REMEMBERED || self.bytes > REMEMBERED_BYTES_MAX {
            let Some((_, oldest)) = self.frames.pop_front() else { return };
            self.bytes -= oldest.event.len();
        }
    }
}

impl Frame {
    fn of(record: &Record) -> Self {
        let json = one_line(RecordView::of(record).to_json());
        let head = format!("id: {}\nevent: {}\ndata: ", record.number.0, record.change.kind().name());
        let event = Bytes::from([head.as_str(), &json, "\n\n"].concat());
        let json = event.slice(head.len()..head.len() + json.len());
        Self { event, json }
    }
}

/// A device's JSON may hold line breaks between its tokens, which would end the field.
fn one_line(json: String) -> String {
    // A search for one byte is many times faster than one for either of two characters.
    let has_breaks = [b'\n', b'\r'].iter().any(|byte| json.as_bytes().contains(byte));
    if has_breaks { json.replace(['\n', '\r'], " ") } else { json }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_api::record_strategy::any_record;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stream_sends_the_record_of_the_api_in_one_line(record in any_record()) {
            let Frame { event, json } = Frame::of(&record);
            let record_json = RecordView::of(&record).to_json();
            prop_assert_eq!(&json, &record_json.replace(['\n', '\r'], " "));
            let (number, kind) = (record.number.0, record.change.kind().name());
            let lines = format!("id: {number}\nevent: {kind}\ndata: ");
            prop_assert_eq!(event, [lines.as_bytes(), &json, b"\n\n"].concat());
            // A client reads the same record.
            let read: RecordView<'static> = serde_json::from_slice(&json).unwrap();
            let again = read.to_json();
            prop_assert_eq!(again.as_bytes(), &json);
        }
    }
}
