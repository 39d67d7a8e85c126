//! Looks over REST whether each event is stored, and once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use covey_client::{Client, EventFilter};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::behaviour::events::SENSOR;
use crate::bench::events::sender::Sent;
use crate::error::{Error, Result};

/// Events on a page.
const PAGE_EVENTS: u32 = 1_000;

/// What the server has of the events that were sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verification {
    /// Events that were acknowledged, each counted once.
    pub acknowledged: u64,
    /// Events that are stored, each counted once.
    pub stored: u64,
    /// Events that were acknowledged and are not stored.
    pub missing: u64,
    /// Copies that are stored beside the first.
    pub stored_twice: u64,
    /// Stored events of this run that no device sent.
    pub unknown: u64,
    /// Events that were refused or never acknowledged, which may be stored.
    pub doubtful: u64,
    /// Whether each event is stored exactly once.
    pub is_exactly_once: bool,
    /// How long looking took, in seconds.
    pub took_s: f64,
}

/// Where the events of a run begin: after this one.
pub(super) async fn newest(client: &Client) -> Result<i64> {
    let page = client.event_list(&EventFilter::default(), None, 1).await?;
    Ok(page.items.first().map_or(0, |event| event.id))
}

/// Compares what was sent with what is stored.
pub(super) async fn verify(
    client: &Client,
    after: i64,
    sns: &[Arc<str>],
    sent: &[Sent],
    stop: &CancellationToken,
) -> Result<Verification> {
    let began = Instant::now();
    let mut ledger = Ledger::new(sns, sent);
    let filter = EventFilter { include: vec![SENSOR.into()], ..EventFilter::default() };
    let mut cursor = None;
    loop {
        let page = tokio::select! {
            page = client.event_list(&filter, cursor.as_deref(), PAGE_EVENTS) => page?,
            () = stop.cancelled() => return Err(Error::Stopped),
        };
        for event in page.items.iter().filter(|event| event.id > after) {
            ledger.see(&event.sn, event.dev_event_id);
        }
        let is_last = page.items.last().is_none_or(|event| event.id <= after);
        cursor = page.next_cursor;
        if is_last || cursor.is_none() {
            break;
        }
    }
    Ok(Verification { took_s: began.elapsed().as_secs_f64(), ..ledger.close(sent) })
}

/// How often each number of each device was seen.
struct Ledger<'a> {
    places: HashMap<&'a str, usize>,
    seen: Vec<Vec<u8>>,
    unknown: u64,
}

impl<'a> Ledger<'a> {
    fn new(sns: &'a [Arc<str>], sent: &[Sent]) -> Self {
        Self {
            places: sns.iter().enumerate().map(|(place, sn)| (&**sn, place)).collect(),
            seen: sent.iter().map(|sent| vec![0; sent.last_number as usize]).collect(),
            unknown: 0,
        }
    }

    fn see(&mut self, sn: &str, number: u32) {
        let seen = self.places.get(sn).and_then(|place| self.seen.get_mut(*place));
        // Numbers begin at 1.
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        match seen.zip(at).and_then(|(seen, at)| seen.get_mut(at)) {
            Some(times) => *times = times.saturating_add(1),
            None => self.unknown += 1,
        }
    }

    fn close(self, sent: &[Sent]) -> Verification {
        let mut told = Verification { unknown: self.unknown, ..Verification::default() };
        for (seen, sent) in self.seen.iter().zip(sent) {
            let mut is_doubtful = vec![false; seen.len()];
            for number in &sent.doubtful {
                if let Some(doubtful) = is_doubtful.get_mut((*number as usize).saturating_sub(1)) {
                    *doubtful = true;
                }
            }
            for (times, is_doubtful) in seen.iter().zip(is_doubtful) {
                told.doubtful += u64::from(is_doubtful);
                told.acknowledged += u64::from(!is_doubtful);
                told.stored += u64::from(*times > 0);
                told.missing += u64::from(*times == 0 && !is_doubtful);
                told.stored_twice += u64::from(times.saturating_sub(1));
            }
        }
        told.is_exactly_once = told.missing == 0 && told.stored_twice == 0 && told.unknown == 0;
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(seen: &[u32], doubtful: &[u32]) -> Verification {
        let sns = [Arc::from("bench-1")];
        let mut sent = Sent::new();
        sent.last_number = 3;
        sent.doubtful = doubtful.to_vec();
        let sent = [sent];
        let mut ledger = Ledger::new(&sns, &sent);
        for number in seen {
            ledger.see("bench-1", *number);
        }
        ledger.close(&sent)
    }

    #[test]
    fn each_number_once_is_exactly_once_and_anything_else_is_not() {
        let good = closed(&[3, 1, 2], &[]);
        assert!(good.is_exactly_once && good.stored == 3 && good.acknowledged == 3);
        let missing = closed(&[3, 1], &[]);
        assert!(!missing.is_exactly_once && missing.missing == 1);
        let twice = closed(&[3, 1, 2, 1], &[]);
        assert!(!twice.is_exactly_once && twice.stored_twice == 1);
        for unknown in [0, 4] {
            let unknown = closed(&[3, 1, 2, unknown], &[]);
            assert!(!unknown.is_exactly_once && unknown.unknown == 1);
        }
        for seen in [&[1, 3][..], &[1, 2, 3]] {
            let doubtful = closed(seen, &[2]);
            assert!(doubtful.is_exactly_once && doubtful.doubtful == 1 && doubtful.acknowledged == 2);
        }
    }
}
