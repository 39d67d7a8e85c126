//! Who hears what is for a node: connections by the second level of the topics that they have subscribed to, which is most
//! often a node's id.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;

use super::topic::{ANY_LEVEL, listened};

/// What one connection has subscribed to: how many filters of each level. It is as bounded as its subscriptions.
#[derive(Debug)]
pub(super) struct Listening {
    client_id: Box<str>,
    /// Which connection of the client.
    number: u64,
    filters: Mutex<HashMap<Box<str>, usize>>,
}

impl Listening {
    pub(super) fn new(client_id: Box<str>, number: u64) -> Self {
        Self { client_id, number, filters: Mutex::default() }
    }

    fn filters(&self) -> MutexGuard<'_, HashMap<Box<str>, usize>> {
        // What it guards is whole at every moment.
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All connections that have subscribed, by level and client id, each with its number: the end of an earlier connection
/// of a client may come to be known after the beginning of a later one.
#[derive(Debug, Default)]
pub(super) struct Listeners(DashMap<Box<str>, HashMap<Box<str>, u64>>);

impl Listeners {
    /// A connection has subscribed to one more filter.
    pub(super) fn subscribed(&self, listening: &Listening, filter: &str) {
        let level = listened(filter);
        *listening.filters().entry(Box::from(level)).or_default() += 1;
        let mut here = self.0.entry(Box::from(level)).or_default();
        here.insert(listening.client_id.clone(), listening.number);
    }

    /// A connection has given a filter up.
    pub(super) fn unsubscribed(&self, listening: &Listening, filter: &str) {
        let level = listened(filter);
        let mut filters = listening.filters();
        let Some(count) = filters.get_mut(level) else { return };
        *count -= 1;
        if *count == 0 {
            filters.remove(level);
            drop(filters);
            self.leave(level, listening);
        }
    }

    /// A connection has ended.
    pub(super) fn gone(&self, listening: &Listening) {
        let filters = std::mem::take(&mut *listening.filters());
        filters.keys().for_each(|level| self.leave(level, listening));
    }

    /// The clients that hear topics of this second level.
    pub(super) fn of(&self, level: &str) -> Vec<Box<str>> {
        let mut clients: Vec<Box<str>> = [level, ANY_LEVEL]
            .into_iter()
            .filter_map(|level| self.0.get(level))
            .flat_map(|here| here.keys().cloned().collect::<Vec<_>>())
            .collect();
        clients.sort_unstable();
        clients.dedup();
        clients
    }

    fn leave(&self, level: &str, listening: &Listening) {
        let is_of_this = |number: &u64| *number == listening.number;
        if let Some(mut here) = self.0.get_mut(level)
            && here.get(&listening.client_id).is_some_and(is_of_this)
        {
            here.remove(&listening.client_id);
        }
        self.0.remove_if(level, |_, here| here.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(number: u64) -> Listening {
        Listening::new(Box::from("lamp"), number)
    }

    #[test]
    fn nothing_is_left_of_a_connection_that_has_ended_or_has_subscribed_to_nothing_any_more() {
        let (all, one) = (Listeners::default(), listening(1));
        for filter in ["gateway/7/discover", "gateway/7/+/set", "gateway/#"] {
            all.subscribed(&one, filter);
        }
        assert_eq!(all.of("7").len(), 1);
        all.unsubscribed(&one, "gateway/#");
        all.unsubscribed(&one, "gateway/7/+/set");
        assert_eq!((all.of("7").len(), all.of("8").len()), (1, 0));
        all.unsubscribed(&one, "gateway/7/discover");
        assert!(all.0.is_empty());
        for number in 0..100 {
            all.subscribed(&one, &format!("gateway/{number}/discover"));
        }
        all.gone(&one);
        assert!(all.0.is_empty());
    }

    #[test]
    fn the_end_of_an_earlier_connection_does_not_make_a_later_one_deaf() {
        let (all, earlier, later) = (Listeners::default(), listening(1), listening(2));
        all.subscribed(&earlier, "gateway/7/+/set");
        all.subscribed(&later, "gateway/7/+/set");
        all.gone(&earlier);
        assert_eq!(all.of("7").len(), 1);
        all.gone(&later);
        assert!(all.0.is_empty());
    }
}
