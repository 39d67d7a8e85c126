//! The server's certificate, renewed while the server runs: before its end, and when the machine has got an address that
//! it does not name.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use covey_http::MicrocontrollerHosts;
use covey_pki::{Authority, ServerCertResolver, ServerNames};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::serve::link::RunningLink;
use crate::serve::names::{Hosts, came, own_addresses};

/// The certificate, and who has it beside the link.
pub struct Certified {
    pub authority: Arc<Authority>,
    pub hosts: Hosts,
    /// What it names.
    pub names: ServerNames,
    pub resolver: Arc<ServerCertResolver>,
    pub mcu_hosts: Option<MicrocontrollerHosts>,
    pub renew_at: OffsetDateTime,
}

/// How long to wait after a renewal that failed, or that the machine's addresses were the reason for: so often at most it
/// is renewed, however often they change.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is looked which addresses the machine has. A clock that is set forward is noticed within it, too.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Renews until stopped; gives the link back.
pub async fn run(mut certified: Certified, mut link: RunningLink, stop: CancellationToken) -> RunningLink {
    stop.run_until_cancelled(renew_for_ever(&mut certified, &mut link)).await;
    link
}

async fn renew_for_ever(certified: &mut Certified, link: &mut RunningLink) {
    loop {
        // Where nobody can tell they are as before.
        let addresses = own_addresses().unwrap_or_else(|_| certified.names.ip.clone());
        let now = OffsetDateTime::now_utc();
        let came = came(&certified.names, &addresses);
        let mut pause = certified.pause(now, LOOK_INTERVAL);
        if pause.is_zero() || !came.is_empty() {
            if !came.is_empty() {
                tracing::info!(addresses = ?came, "the server certificate does not name addresses that the machine has got");
            }
            pause = match certified.renew(&addresses, now, || link.renew()) {
                Ok(()) if came.is_empty() => continue,
                Ok(()) => certified.pause(now, RETRY_INTERVAL),
                Err(problem) => {
                    tracing::error!(problem, "server certificate not renewed; retrying");
                    RETRY_INTERVAL
                }
            };
        }
        tokio::time::sleep(pause).await;
    }
}

impl Certified {
    /// How long there is nothing to do, at most so long.
    fn pause(&self, now: OffsetDateTime, at_most: Duration) -> Duration {
        let left = self.renew_at - now;
        if left.is_positive() { left.unsigned_abs().min(at_most) } else { Duration::ZERO }
    }

    /// Makes the certificate anew, for a machine with these addresses. What fails changes nothing here, and is to be done
    /// again.
    fn renew(
        &mut self,
        addresses: &[IpAddr],
        now: OffsetDateTime,
        renew_link: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        let names = self.hosts.with(addresses);
        let certificate =
            self.authority.server_certificate(&names, now).map_err(|error| error.to_string())?;
        self.resolver.replace(&certificate).map_err(|error| error.to_string())?;
        renew_link()?;
        if let Some(hosts) = &self.mcu_hosts {
            hosts.replace(names.hosts());
        }
        self.names = names;
        self.renew_at = certificate.renew_at();
        tracing::info!(until = %certificate.not_after(), "server certificate renewed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_pki::CertificateLifetimes;

    use super::*;

    fn certified(folder: &std::path::Path, now: OffsetDateTime) -> Certified {
        let authority = Authority::open_or_create(folder, CertificateLifetimes::default(), now).unwrap();
        let hosts = Hosts::fixed(&["localhost"]);
        let names = hosts.with(&["192.0.2.7".parse().unwrap()]);
        let certificate = authority.server_certificate(&names, now).unwrap();
        Certified {
            authority: Arc::new(authority),
            hosts,
            names,
            resolver: Arc::new(ServerCertResolver::new(&certificate).unwrap()),
            mcu_hosts: None,
            renew_at: certificate.renew_at(),
        }
    }

    #[test]
    fn an_address_that_has_come_is_in_the_certificate_once_all_have_that() {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let mut certified = certified(folder.path(), now);
        let before = std::fs::read(certified.authority.server_certificate_path()).unwrap();
        let addresses = ["192.0.2.8".parse().unwrap()];
        assert_eq!(certified.renew(&addresses, now, || Err("no".to_owned())), Err("no".to_owned()));
        assert_eq!(came(&certified.names, &addresses), addresses, "it is tried again");
        assert_eq!(certified.renew(&addresses, now, || Ok(())), Ok(()));
        assert!(came(&certified.names, &addresses).is_empty());
        assert_ne!(std::fs::read(certified.authority.server_certificate_path()).unwrap(), before);
        let names = ServerNames::from_hosts(["localhost", "192.0.2.8"]);
        let kept = certified.authority.server_certificate(&names, now).unwrap();
        assert_eq!(kept.renewed_because(), None, "it names both");
    }
}
