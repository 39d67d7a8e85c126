//! The links of a server side by side: which of them reaches a device, and
//! what concerns all of them.

use std::sync::Arc;

use crate::id::{OrgId, Sn};
use crate::node::NodeName;
use crate::port::{Announcement, BoxFuture, Link, LinkState, Reach};

/// The place of a link among those of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPlace(u8);

/// How one link of a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkHealth {
    /// The link's name.
    pub name: &'static str,
    /// How it is.
    pub state: LinkState,
}

/// The ways to devices that a server has. A device is connected through one of
/// them at a time: the one that last said that the device listens.
#[derive(Clone, Default)]
pub struct Links(Vec<Arc<dyn Link>>);

impl Links {
    /// These links, at most 256 of them, each with a name of its own.
    #[must_use]
    pub fn new(links: impl IntoIterator<Item = Arc<dyn Link>>) -> Self {
        Self(links.into_iter().take(usize::from(u8::MAX) + 1).collect())
    }

    /// The link of this name, if the server has it.
    pub(crate) fn place(&self, name: &str) -> Option<LinkPlace> {
        let place = self.0.iter().position(|link| link.name() == name)?;
        u8::try_from(place).ok().map(LinkPlace)
    }

    fn at(&self, place: LinkPlace) -> Option<&Arc<dyn Link>> {
        self.0.get(usize::from(place.0))
    }

    /// How a device is reached that listens through the link at `place`, or
    /// that listens at none.
    pub(crate) fn reach(&self, place: Option<LinkPlace>) -> Reach {
        match place.and_then(|place| self.at(place)) {
            Some(link) if link.is_shared() => Reach::Everywhere,
            Some(_) => Reach::Here,
            None => Reach::Elsewhere,
        }
    }

    /// Whether a device that does not listen here may listen at another
    /// server: over links that are all shared it would listen here, too.
    pub(crate) fn may_be_elsewhere(&self) -> bool {
        !self.0.iter().all(|link| link.is_shared())
    }

    /// Tells a device through the link at which it listens.
    pub(crate) fn announce(&self, place: LinkPlace, task: Announcement) {
        if let Some(link) = self.at(place) {
            link.announce(task);
        }
    }

    /// Closes a device's connection, wherever it is.
    pub(crate) fn revoke(&self, sn: &Sn) {
        self.0.iter().for_each(|link| link.revoke(sn));
    }

    /// Another server has revoked a device: over a shared link it has closed
    /// the connection for all.
    pub(crate) fn revoke_after_peer(&self, sn: &Sn) {
        self.0.iter().filter(|link| !link.is_shared()).for_each(|link| link.revoke(sn));
    }

    /// Closes the connection that a certificate has let in, wherever it is.
    pub(crate) fn revoke_certificate(&self, sn: &Sn, serial_hex: &str) {
        self.0.iter().for_each(|link| link.revoke_certificate(sn, serial_hex));
    }

    /// Another server has revoked a certificate: over a shared link it has closed the connection for all.
    pub(crate) fn revoke_certificate_after_peer(&self, sn: &Sn, serial_hex: &str) {
        let own = self.0.iter().filter(|link| !link.is_shared());
        own.for_each(|link| link.revoke_certificate(sn, serial_hex));
    }

    /// Tells gateways that they may get another answer for a node.
    pub(crate) fn node_changed(&self, org: OrgId, name: &NodeName) {
        self.0.iter().for_each(|link| link.node_changed(org, name));
    }

    /// Makes it possible for a device that was just registered to connect.
    pub(crate) fn admit(&self, sn: &Sn) -> BoxFuture<'static, ()> {
        let admitting: Vec<_> = self.0.iter().map(|link| link.admit(sn)).collect();
        Box::pin(async move {
            for one in admitting {
                one.await;
            }
        })
    }

    /// How each link is.
    pub(crate) fn states(&self) -> Vec<LinkHealth> {
        self.0.iter().map(|link| LinkHealth { name: link.name(), state: link.state() }).collect()
    }

    /// What each link has counted, by its name.
    pub(crate) fn counts(&self) -> Vec<(&'static str, Vec<(&'static str, u64)>)> {
        self.0.iter().map(|link| (link.name(), link.counts())).collect()
    }

    /// Whether no message can leave through any link.
    pub(crate) fn are_blocked(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|link| link.is_blocked())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A link that writes down what it is asked for.
    struct Asked {
        name: &'static str,
        is_shared: bool,
        is_blocked: bool,
        revoked: Mutex<usize>,
    }

    impl Link for Asked {
        fn name(&self) -> &'static str {
            self.name
        }

        fn is_shared(&self) -> bool {
            self.is_shared
        }

        fn announce(&self, _: Announcement) {}

        fn revoke(&self, _: &Sn) {
            if let Ok(mut revoked) = self.revoked.lock() {
                *revoked += 1;
            }
        }

        fn admit(&self, _: &Sn) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }

        fn is_blocked(&self) -> bool {
            self.is_blocked
        }
    }

    fn link(name: &'static str, is_shared: bool, is_blocked: bool) -> Arc<Asked> {
        Arc::new(Asked { name, is_shared, is_blocked, revoked: Mutex::default() })
    }

    fn revoked(link: &Asked) -> usize {
        link.revoked.lock().map_or(0, |revoked| *revoked)
    }

    #[test]
    fn a_device_is_reached_as_its_own_link_reaches_devices() {
        let (here, broker) = (link("here", false, false), link("broker", true, false));
        let links = Links::new([Arc::clone(&here) as Arc<dyn Link>, Arc::clone(&broker) as _]);
        assert_eq!(links.reach(links.place("here")), Reach::Here);
        assert_eq!(links.reach(links.place("broker")), Reach::Everywhere);
        assert_eq!(links.reach(links.place("unknown")), Reach::Elsewhere);
        assert!(links.may_be_elsewhere(), "it may be connected to another server");
        assert!(!Links::new([broker as _]).may_be_elsewhere());
    }

    #[test]
    fn a_device_that_another_server_revoked_is_closed_where_links_are_not_shared() {
        let (here, broker) = (link("here", false, false), link("broker", true, false));
        let links = Links::new([Arc::clone(&here) as Arc<dyn Link>, Arc::clone(&broker) as _]);
        let Ok(sn) = Sn::parse("lamp") else { unreachable!("a serial number") };
        links.revoke(&sn);
        assert_eq!((revoked(&here), revoked(&broker)), (1, 1));
        links.revoke_after_peer(&sn);
        assert_eq!((revoked(&here), revoked(&broker)), (2, 1));
    }

    #[test]
    fn calls_are_refused_when_no_link_can_send() {
        let (up, down) = (link("up", false, false), link("down", true, true));
        assert!(!Links::new([Arc::clone(&up) as Arc<dyn Link>, Arc::clone(&down) as _]).are_blocked());
        assert!(Links::new([down as Arc<dyn Link>]).are_blocked());
        assert!(!Links::default().are_blocked());
    }
}
