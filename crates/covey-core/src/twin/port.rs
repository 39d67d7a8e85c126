//! What operations and callers ask the store of twins.

use crate::access::Caller;
use crate::device::DeviceIdentity;
use crate::id::{DeviceId, DeviceKey};
use crate::port::{Found, TxResult};
use crate::twin::{ReportedValue, Twin, TwinResource, TwinVersions};

/// The steps on twins inside a transaction.
pub trait TwinSteps {
    /// The versions of a device's twin; 0 of one that was never touched.
    fn twin_versions(&mut self, device: DeviceKey) -> TxResult<TwinVersions>;
    /// Sets them.
    fn twin_versions_put(&mut self, device: DeviceKey, versions: TwinVersions) -> TxResult<()>;
    /// Counts a change of the reported side; answers the versions after it.
    fn twin_reported(&mut self, device: DeviceKey) -> TxResult<TwinVersions>;
    /// A resource of a device.
    fn twin_resource(&mut self, device: DeviceKey, name: &str) -> TxResult<Option<TwinResource>>;
    /// All resources of a device, in the order of their names.
    fn twin_resources(&mut self, device: DeviceKey) -> TxResult<Vec<TwinResource>>;
    /// How many resources a device has.
    fn twin_resource_count(&mut self, device: DeviceKey) -> TxResult<u32>;
    /// Stores a resource in place of what it was; one with neither value is removed.
    fn twin_resource_put(&mut self, device: DeviceKey, resource: &TwinResource) -> TxResult<()>;
    /// Adds to the history of what a device reported of a resource.
    fn twin_history_insert(
        &mut self,
        device: &DeviceIdentity,
        name: &str,
        value: &ReportedValue,
    ) -> TxResult<()>;
}

/// The reads of twins.
pub trait TwinReader {
    /// The twin of a device of the caller's organisation.
    fn twin_get(&self, caller: &Caller, device: DeviceId) -> Found<'_, Option<Twin>>;

    /// What a device reported of a resource, newest first: those before a
    /// version, or the newest; up to [`LIST_BYTES_MAX`](crate::port::LIST_BYTES_MAX). None if there is no such
    /// device.
    fn twin_history(
        &self,
        caller: &Caller,
        device: DeviceId,
        resource: String,
        before: Option<i64>,
        limit: u32,
    ) -> Found<'_, Option<Vec<ReportedValue>>>;
}
