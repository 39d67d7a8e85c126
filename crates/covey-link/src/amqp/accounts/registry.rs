//! Which devices are registered, by the engine of a server or by a store alone.

use std::sync::Arc;

use covey_core::Engine;
use covey_core::error::Result as StoreResult;
use covey_core::id::Sn;
use covey_core::port::{BoxFuture, Store};

/// The registered devices.
pub trait Registry: Send + Sync {
    /// The serial numbers in their order, those after `after`.
    fn sns<'a>(&'a self, after: Option<&'a Sn>, limit: u32) -> BoxFuture<'a, StoreResult<Vec<Sn>>>;
    /// Whether a device is registered under this serial number now.
    fn is_registered<'a>(&'a self, sn: &'a Sn) -> BoxFuture<'a, StoreResult<bool>>;
}

impl Registry for Engine {
    fn sns<'a>(&'a self, after: Option<&'a Sn>, limit: u32) -> BoxFuture<'a, StoreResult<Vec<Sn>>> {
        Box::pin(self.server().device_sns(after, limit))
    }

    fn is_registered<'a>(&'a self, sn: &'a Sn) -> BoxFuture<'a, StoreResult<bool>> {
        Box::pin(async move { Ok(self.server().device_of_sn(sn).await?.is_some()) })
    }
}

/// A store beside the server, as commands use it.
pub struct StoreRegistry(pub Arc<dyn Store>);

impl Registry for StoreRegistry {
    fn sns<'a>(&'a self, after: Option<&'a Sn>, limit: u32) -> BoxFuture<'a, StoreResult<Vec<Sn>>> {
        self.0.device_sns_of_every_org(after.cloned(), limit)
    }

    fn is_registered<'a>(&'a self, sn: &'a Sn) -> BoxFuture<'a, StoreResult<bool>> {
        Box::pin(async move { Ok(self.0.device_of_sn_of_every_org(sn.clone()).await?.is_some()) })
    }
}
