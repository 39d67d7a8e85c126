//! Tells the local network what is here, until it stops and says goodbye.

use std::time::Duration;

use mdns_sd::{DaemonEvent, IfKind, Receiver, ServiceDaemon, ServiceInfo};
use tokio::time::{Instant, interval_at, timeout};

use crate::error::DiscoveryError;
use crate::found::instance_of;
use crate::service::{Announcement, Reach, TXT_VERSION, instance_name};

/// How many records of others may be kept. Names are kept unique by hearing all that is said, and whoever says much fills
/// that memory.
/// Limit for the announcer: it forgets everything, and announces anew.
pub const CACHED_RECORDS_MAX: i64 = 10_000;
/// How often that is looked at, in milliseconds.
const CHECK_MS: u64 = 1_000;
/// How long a goodbye may take, in milliseconds.
/// Limit for the announcer: it ends without it, and what it said is forgotten by others when its time is over.
const GOODBYE_MS_MAX: u64 = 2_000;

/// Something that happened to what is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Somebody else has that name, and this is the new one (RFC 6762 §9).
    Renamed {
        /// What it was called.
        from: String,
        /// What it is called now.
        to: String,
    },
    /// Others said more than is kept: everything was forgotten, and is announced anew.
    Flooded {
        /// How many records there were.
        records: i64,
    },
    /// Something does not work, such as an interface without multicast.
    Failed(String),
}

/// Something that is announced. It says goodbye by [`Announcer::stop`]; dropped without, it is forgotten by others when
/// its time is over.
pub struct Announcer {
    host: String,
    name: String,
    announcements: Vec<Announcement>,
    daemon: ServiceDaemon,
    events: Receiver<DaemonEvent>,
    next_check: Instant,
}

impl Announcer {
    /// Begins to announce, everything under one name, until somebody else has it. `host` is what the machine is called, as
    /// [`host_name`](crate::host_name) has it.
    ///
    /// # Errors
    /// Multicast DNS cannot be used here, or something cannot be announced.
    pub fn start(host: &str, name: &str, announcements: Vec<Announcement>) -> Result<Self, DiscoveryError> {
        let (host, name) = (format!("{host}."), instance_name(name));
        let (daemon, events) = begin(&host, &name, &announcements)?;
        let next_check = Instant::now() + Duration::from_millis(CHECK_MS);
        Ok(Self { host, name, announcements, daemon, events, next_check })
    }

    /// Waits for the next thing that happens.
    ///
    /// # Errors
    /// The announcer has ended: multicast DNS cannot be used any more.
    pub async fn next(&mut self) -> Result<Happened, DiscoveryError> {
        let mut check = interval_at(self.next_check, Duration::from_millis(CHECK_MS));
        loop {
            tokio::select! {
                event = self.events.recv_async() => match event {
                    Ok(DaemonEvent::NameChange(change)) => {
                        if let Some(renamed) = self.rename(&change.original, &change.new_name).await? {
                            return Ok(renamed);
                        }
                    }
                    Ok(DaemonEvent::Error(error)) => return Ok(Happened::Failed(error.to_string())),
                    Ok(_) => {}
                    Err(_) => return Err(mdns_sd::Error::DaemonShutdown.into()),
                },
                _ = check.tick() => {
                    self.next_check = Instant::now() + Duration::from_millis(CHECK_MS);
                    let records = self.cached_records().await?;
                    if records > CACHED_RECORDS_MAX {
                        self.begin_anew().await?;
                        return Ok(Happened::Flooded { records });
                    }
                }
            }
        }
    }

    /// Says goodbye, and ends.
    pub async fn stop(self) {
        goodbye(&self.daemon).await;
    }

    async fn cached_records(&self) -> Result<i64, DiscoveryError> {
        let asked = match self.daemon.get_metrics() {
            // It has too much to do, and is asked again.
            Err(mdns_sd::Error::Again) => return Ok(0),
            asked => asked?,
        };
        let counts = asked.recv_async().await.map_err(|_| mdns_sd::Error::DaemonShutdown)?;
        Ok(counts.iter().filter(|(name, _)| name.starts_with("cached-")).map(|(_, count)| count).sum())
    }

    /// The library renames one service at a time. Here all have one name, so that whoever was told it finds each.
    async fn rename(&mut self, from: &str, to: &str) -> Result<Option<Happened>, DiscoveryError> {
        let renamed =
            |from: &str, to: &str| Some(Happened::Renamed { from: from.to_owned(), to: to.to_owned() });
        let Some(to) = self.announcements.iter().find_map(|of| instance_of(to, &of.kind.domain())) else {
            return Ok(renamed(from.trim_end_matches('.'), to.trim_end_matches('.')));
        };
        if to == self.name {
            return Ok(None);
        }
        let from = std::mem::replace(&mut self.name, to);
        self.begin_anew().await?;
        Ok(renamed(&from, &self.name))
    }

    async fn begin_anew(&mut self) -> Result<(), DiscoveryError> {
        goodbye(&self.daemon).await;
        (self.daemon, self.events) = begin(&self.host, &self.name, &self.announcements)?;
        Ok(())
    }
}

fn begin(
    host: &str,
    name: &str,
    announcements: &[Announcement],
) -> Result<(ServiceDaemon, Receiver<DaemonEvent>), DiscoveryError> {
    let daemon = ServiceDaemon::new()?;
    daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
    let events = daemon.monitor()?;
    for announcement in announcements {
        let wrong = |source| DiscoveryError::Announcement {
            name: name.to_owned(),
            kind: announcement.kind.name(),
            source,
        };
        daemon.register(info(host, name, announcement).map_err(wrong)?).map_err(wrong)?;
    }
    Ok((daemon, events))
}

fn info(host: &str, name: &str, announcement: &Announcement) -> Result<ServiceInfo, mdns_sd::Error> {
    let Announcement { kind, reach, port, txt } = announcement;
    let entries: Vec<(&str, &str)> =
        std::iter::once(TXT_VERSION).chain(txt.iter().map(|(key, value)| (*key, value.as_str()))).collect();
    let mut info = ServiceInfo::new(&kind.domain(), name, host, "", *port, &entries[..])?.enable_addr_auto();
    info.set_interfaces(vec![match reach {
        Reach::All => IfKind::All,
        Reach::V4 => IfKind::IPv4,
        Reach::Only(ip) => IfKind::Addr(*ip),
    }]);
    Ok(info)
}

async fn goodbye(daemon: &ServiceDaemon) {
    if let Ok(ended) = daemon.shutdown() {
        let _ = timeout(Duration::from_millis(GOODBYE_MS_MAX), ended.recv_async()).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::service::Kind;

    #[test]
    fn the_txt_record_begins_with_its_version() {
        let announcement = Announcement {
            kind: Kind::Covey,
            reach: Reach::V4,
            port: 8443,
            txt: vec![("api", "/api/v1".to_owned())],
        };
        let info = info("lab.local.", "attic", &announcement).unwrap();
        let keys: Vec<_> = info.get_properties().iter().map(|entry| entry.key().to_owned()).collect();
        assert_eq!(keys, ["txtvers", "api"]);
        assert_eq!(info.get_fullname(), "attic._covey._tcp.local.");
        assert!(info.is_addr_auto());
    }
}
