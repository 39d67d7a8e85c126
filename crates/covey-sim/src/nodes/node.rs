//! What a node has: values as the field writes them, of which some change by themselves and some can be set.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::seed::SplitMix64;

/// The resources of a node, with what they are at first. Values are text with their units, as firmware says them; `imu` and
/// `position` are JSON text.
const RESOURCES: [(&str, &str); 10] = [
    ("name", ""),
    ("board", "native"),
    ("os", "covey-sim"),
    ("version", env!("CARGO_PKG_VERSION")),
    ("led", "0"),
    ("robot", "s"),
    ("temperature", "23°C"),
    ("pressure", "1013hPa"),
    ("imu", r#"[{"type": "acc", "values": [0, 0, 981]}]"#),
    ("position", r#"{"lat": 48.714784, "lng": 2.205502}"#),
];
/// Those that can be set.
const WRITABLE: [&str; 3] = ["name", "led", "robot"];
/// Longest value that a node takes, in bytes.
const VALUE_BYTES_MAX: usize = 512;

/// A node.
pub(super) struct Node {
    pub(super) uid: String,
    state: Mutex<State>,
}

struct State {
    values: Vec<(&'static str, String)>,
    random: SplitMix64,
    /// Which of the values that change is the next to do so.
    turn: usize,
}

/// Why a value was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSet {
    /// There is no such resource.
    Unknown,
    /// It can be read alone.
    ReadOnly,
    /// The value is too long, or no text.
    Value,
}

impl Node {
    pub(super) fn new(uid: String, seed: u64) -> Self {
        let random = SplitMix64::named(seed, &uid);
        let values = RESOURCES.map(|(name, value)| match name {
            "name" => (name, uid.clone()),
            _ => (name, value.to_owned()),
        });
        Self { uid, state: Mutex::new(State { values: values.to_vec(), random, turn: 0 }) }
    }

    /// The names of its resources.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        RESOURCES.into_iter().map(|(name, _)| name)
    }

    /// All its values.
    pub(super) fn values(&self) -> Vec<(&'static str, String)> {
        self.lock().values.clone()
    }

    /// What a resource is.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.lock().values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    /// Sets a value; answers the name of the resource.
    pub(super) fn set(&self, name: &str, value: &[u8]) -> Result<&'static str, NotSet> {
        let mut state = self.lock();
        let (name, stored) =
            state.values.iter_mut().find(|(known, _)| *known == name).ok_or(NotSet::Unknown)?;
        if !WRITABLE.contains(name) {
            return Err(NotSet::ReadOnly);
        }
        let value = std::str::from_utf8(value).ok().filter(|value| value.len() <= VALUE_BYTES_MAX);
        *stored = value.ok_or(NotSet::Value)?.to_owned();
        Ok(name)
    }

    /// Lets one of the values change that do so by themselves, and answers it.
    pub(super) fn change(&self) -> (&'static str, String) {
        let mut state = self.lock();
        state.turn = (state.turn + 1) % 3;
        let State { values, random, turn } = &mut *state;
        let mut around = |mean: u64, by: u64| mean - by + random.next_below(2 * by + 1);
        let (name, value) = match turn {
            0 => ("pressure", format!("{}hPa", around(1_013, 10))),
            1 => ("temperature", format!("{}°C", around(23, 3))),
            _ => {
                let (x, y, z) = (around(100, 100), around(100, 100), around(981, 20));
                ("imu", format!(r#"[{{"type": "acc", "values": [{x}, {y}, {z}]}}]"#))
            }
        };
        if let Some((_, stored)) = values.iter_mut().find(|(known, _)| *known == name) {
            stored.clone_from(&value);
        }
        (name, value)
    }

    /// A measurement of a unit, 0 to 1023.
    pub(super) fn measure(&self) -> u64 {
        self.lock().random.next_below(1_024)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What it guards is whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_node_takes_what_can_be_set_and_nothing_else() {
        let node = Node::new("sim-00001".to_owned(), 1);
        assert_eq!(node.set("led", b"1"), Ok("led"));
        assert_eq!(
            (node.value("led").as_deref(), node.value("name").as_deref()),
            (Some("1"), Some("sim-00001"))
        );
        assert_eq!(node.set("temperature", b"1"), Err(NotSet::ReadOnly));
        assert_eq!(node.set("lamp", b"1"), Err(NotSet::Unknown));
        for wrong in [&[0xff_u8][..], &[b'x'; VALUE_BYTES_MAX + 1]] {
            assert_eq!(node.set("led", wrong), Err(NotSet::Value));
        }
        assert_eq!(node.value("led").as_deref(), Some("1"));
    }

    #[test]
    fn values_that_change_keep_their_units_and_json_stays_json() {
        let node = Node::new("sim-00001".to_owned(), 1);
        for _ in 0..30 {
            let (name, value) = node.change();
            assert_eq!(node.value(name), Some(value.clone()));
            match name {
                "pressure" => assert!(value.strip_suffix("hPa").unwrap().parse::<u32>().is_ok()),
                "temperature" => assert!(value.strip_suffix("°C").unwrap().parse::<u32>().is_ok()),
                _ => assert!(serde_json::from_str::<serde_json::Value>(&value).unwrap().is_array()),
            }
        }
        assert!((0..1_000).all(|_| node.measure() < 1_024));
    }
}
