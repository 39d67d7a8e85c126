//! The topics that have an id for a client (§6.5), one after the other in one piece of memory: most clients have a few,
//! and there are many clients. An id is the place, from 1 on; it stays as long as the session.

use super::settings::{TOPICS_BYTES_MAX, TOPICS_MAX};

/// Before each name: whether the client knows its id, and the length.
const HEAD: usize = 2;
const KNOWN: u8 = 1;

/// The topics of a client.
#[derive(Debug, Default)]
pub(super) struct Topics(Vec<u8>);

impl Topics {
    /// Where each entry begins, with its name.
    fn entries(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let length = usize::from(*self.0.get(at + 1)?);
            let begin = at;
            at += HEAD + length;
            Some((begin, self.0.get(begin + HEAD..at)?))
        })
    }

    fn entry(&self, id: u16) -> Option<(usize, &[u8])> {
        self.entries().nth(usize::from(id).checked_sub(1)?)
    }

    /// The name for which an id stands.
    pub fn name(&self, id: u16) -> Option<&str> {
        // Only text is added.
        self.entry(id).and_then(|(_, name)| std::str::from_utf8(name).ok())
    }

    /// The id of a topic, which gets one if it has none. None if there is no room for it.
    pub fn id_of(&mut self, name: &str) -> Option<u16> {
        let mut count = 0;
        for (_, known) in self.entries() {
            count += 1;
            if known == name.as_bytes() {
                return Some(count);
            }
        }
        let length = u8::try_from(name.len()).ok()?;
        if usize::from(count) == TOPICS_MAX || self.0.len() + HEAD + name.len() > TOPICS_BYTES_MAX {
            return None;
        }
        self.0.reserve_exact(HEAD + name.len());
        self.0.extend_from_slice(&[0, length]);
        self.0.extend_from_slice(name.as_bytes());
        Some(count + 1)
    }

    /// Whether the client knows for what an id stands.
    pub fn is_known(&self, id: u16) -> bool {
        self.entry(id).is_some_and(|(at, _)| self.0.get(at) == Some(&KNOWN))
    }

    /// The client knows, or does not know any more, for what an id stands.
    pub fn set_known(&mut self, id: u16, is_known: bool) {
        let Some((at, _)) = self.entry(id) else { return };
        if let Some(known) = self.0.get_mut(at) {
            *known = u8::from(is_known);
        }
    }

    /// The client knows none of the ids any more.
    pub fn forget_known(&mut self) {
        let places: Vec<usize> = self.entries().map(|(at, _)| at).collect();
        for at in places {
            if let Some(known) = self.0.get_mut(at) {
                *known = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_id_stays_and_a_name_has_one() {
        let mut topics = Topics::default();
        assert_eq!((topics.name(0), topics.name(1)), (None, None));
        assert_eq!(topics.id_of("node/check"), Some(1));
        assert_eq!(topics.id_of("node/7/led"), Some(2));
        assert_eq!(topics.id_of("node/check"), Some(1));
        assert_eq!(
            (topics.name(1), topics.name(2), topics.name(3)),
            (Some("node/check"), Some("node/7/led"), None)
        );
        assert!(!topics.is_known(2));
        topics.set_known(2, true);
        topics.set_known(3, true);
        assert!(topics.is_known(2) && !topics.is_known(1) && !topics.is_known(0));
        topics.forget_known();
        assert!(!topics.is_known(2));
    }

    #[test]
    fn there_are_so_many_and_of_so_many_bytes() {
        let mut topics = Topics::default();
        for number in 1..=TOPICS_MAX {
            assert_eq!(topics.id_of(&format!("t{number}")), Some(u16::try_from(number).unwrap()));
        }
        assert_eq!(topics.id_of("one more"), None);
        assert_eq!(topics.id_of("t64"), Some(64));
        let mut topics = Topics::default();
        assert_eq!(topics.id_of(&"x".repeat(256)), None);
        let long = |number: usize| format!("{number:0>249}");
        let room = TOPICS_BYTES_MAX / (249 + HEAD);
        for number in 0..room {
            assert!(topics.id_of(&long(number)).is_some());
        }
        assert_eq!(topics.id_of(&long(room)), None);
    }
}
