//! How the parts of a server are, and whether the server can do its work
//! (`docs/adr/0014-what-a-server-says-of-its-parts.md`).

use crate::engine::ForServer;
use crate::error::{Error, StorageFault};
use crate::links::LinkHealth;
use crate::port::Room;

/// How the parts of a server are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why the store takes no writes, or does not answer; none while it does both.
    pub store_fault: Option<StorageFault>,
    /// How much room the store has. While it is short the server is ready: what was taken
    /// goes on, and what makes room must reach it.
    pub room: Room,
    /// The links.
    pub links: Vec<LinkHealth>,
}

impl Health {
    /// Whether the server can do its work: store what it is asked for, and reach
    /// devices over at least one of its links. A link that was up may be away for
    /// as long as a restart of its broker takes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let reaches_devices = self.links.is_empty() || self.links.iter().any(|link| link.state.is_ready);
        self.store_fault.is_none() && reaches_devices
    }

    /// What is wrong, part by part, for anyone to read.
    pub fn problems(&self) -> impl Iterator<Item = String> + '_ {
        let store = self.store_fault.map(|fault| format!("store: {fault}"));
        let links = self.links.iter().filter_map(|link| Some((link.name, link.state.status.why()?)));
        store.into_iter().chain(links.map(|(name, why)| format!("link {name}: {why}")))
    }
}

impl ForServer<'_> {
    /// How the parts are, as far as that is known without asking anybody.
    #[must_use]
    pub fn health(self) -> Health {
        let parts = &self.engine.parts;
        Health {
            store_fault: parts.store.write_fault(),
            room: parts.store.room(),
            links: parts.links.states(),
        }
    }

    /// What each link has counted since the server began, by the link's name.
    #[must_use]
    pub fn link_counts(self) -> Vec<(&'static str, Vec<(&'static str, u64)>)> {
        self.engine.parts.links.counts()
    }

    /// The same as [`health`](Self::health), after a look whether the store answers: the cheapest read that
    /// there is.
    ///
    /// # Errors
    /// Those of the store that do not say that it is unavailable.
    pub async fn health_look(self) -> Result<Health, Error> {
        let mut health = self.health();
        match self.api_key_check("").await {
            Err(Error::Unavailable { reason }) => {
                health.store_fault.get_or_insert(reason);
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        Ok(health)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{LinkState, LinkStatus};

    fn link(name: &'static str, status: LinkStatus, is_ready: bool) -> LinkHealth {
        LinkHealth { name, state: LinkState { status, is_ready } }
    }

    #[test]
    fn a_server_is_ready_while_it_can_store_and_reach_devices_over_some_link() {
        let up = link("embedded", LinkStatus::Up, true);
        let restarting = link("mqtt", LinkStatus::Down, true);
        let down = link("mqtt", LinkStatus::Down, false);
        let blocked = link("amqp", LinkStatus::Blocked, false);
        for (store_fault, links, is_ready) in [
            (None, vec![up], true),
            (None, vec![restarting], true),
            (None, vec![down], false),
            (None, vec![blocked, down], false),
            (None, vec![down, up], true),
            (None, vec![], true),
            (Some(StorageFault::ReadOnly), vec![up], false),
            (Some(StorageFault::Full), vec![], false),
        ] {
            for room in [Room::Enough, Room::Short] {
                let health = Health { store_fault, room, links: links.clone() };
                assert_eq!(health.is_ready(), is_ready, "{health:?}");
            }
        }
    }

    #[test]
    fn each_part_that_is_not_well_is_named() {
        let health = Health {
            store_fault: Some(StorageFault::ReadOnly),
            room: Room::Enough,
            links: vec![link("embedded", LinkStatus::Up, true), link("mqtt", LinkStatus::Down, false)],
        };
        let problems: Vec<_> = health.problems().collect();
        assert_eq!(problems, ["store: the database is read-only", "link mqtt: no connection to the broker"]);
    }
}
