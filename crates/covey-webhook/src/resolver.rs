//! Names become addresses, and of these only those remain that messages may
//! go to. The client connects to what comes out here and to nothing else, so
//! a name that answers differently the next time gains nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use covey_core::port::BoxFuture;
use covey_core::webhook::address::AddressRule;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How names become addresses.
pub(crate) trait Names: Send + Sync + 'static {
    /// All addresses of a name.
    fn addresses(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>>;
}

/// The names that this machine knows.
pub(crate) struct SystemNames;

impl Names for SystemNames {
    fn addresses(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Why a name cannot be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameFault {
    #[error("the host has no address")]
    Unknown,
    #[error("the host has no address that webhooks may go to")]
    Forbidden,
}

/// Gives the client the addresses that it may connect to.
pub(crate) struct GuardedResolver {
    pub(crate) names: Arc<dyn Names>,
    pub(crate) rule: Arc<AddressRule>,
    pub(crate) is_tls: bool,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.names.addresses(name.as_str().to_owned());
        let (rule, is_tls) = (Arc::clone(&self.rule), self.is_tls);
        Box::pin(async move {
            let found = found.await.map_err(|_| NameFault::Unknown)?;
            if found.is_empty() {
                return Err(NameFault::Unknown.into());
            }
            let admitted = found.into_iter().filter(|address| rule.admits(*address, is_tls));
            let addresses: Vec<_> = admitted.map(|address| SocketAddr::new(address, 0)).collect();
            if addresses.is_empty() {
                return Err(NameFault::Forbidden.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
