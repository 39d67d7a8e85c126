//! Steps on twins.

use crate::postgres::fault::Failure;
use crate::postgres::pipeline::{Reply, values};
use crate::postgres::twin::CachedTwin;
use crate::postgres::write::transaction::{PostgresTransaction, Prepared};
use crate::rows;
use covey_core::device::DeviceIdentity;
use covey_core::id::DeviceKey;
use covey_core::port::TxResult;
use covey_core::twin::{ReportedValue, TwinResource, TwinSteps, TwinVersions};

/// How many bytes of values of twins a group remembers; beyond that it reads
/// twins again.
const CACHED_BYTES_MAX: usize = 16 * 1024 * 1024;

impl TwinSteps for PostgresTransaction<'_> {
    fn twin_versions(&mut self, device: DeviceKey) -> TxResult<TwinVersions> {
        self.hold_twin(device).map(|twin| twin.versions)
    }

    fn twin_versions_put(&mut self, device: DeviceKey, versions: TwinVersions) -> TxResult<()> {
        self.hold_twin(device)?.versions = versions;
        self.batch.twins.versions.insert(device, versions);
        Ok(())
    }

    fn twin_reported(&mut self, device: DeviceKey) -> TxResult<TwinVersions> {
        let mut versions = self.twin_versions(device)?;
        versions.reported += 1;
        self.twin_versions_put(device, versions)?;
        Ok(versions)
    }

    fn twin_resource(&mut self, device: DeviceKey, name: &str) -> TxResult<Option<TwinResource>> {
        self.hold_twin(device).map(|twin| twin.resources.get(name).cloned())
    }

    fn twin_resources(&mut self, device: DeviceKey) -> TxResult<Vec<TwinResource>> {
        self.hold_twin(device).map(|twin| twin.resources.values().cloned().collect())
    }

    fn twin_resource_count(&mut self, device: DeviceKey) -> TxResult<u32> {
        self.hold_twin(device).map(|twin| u32::try_from(twin.resources.len()).unwrap_or(u32::MAX))
    }

    fn twin_resource_put(&mut self, device: DeviceKey, resource: &TwinResource) -> TxResult<()> {
        let is_gone = resource.reported.is_none() && resource.desired.is_none();
        let name = resource.name.clone();
        let kept = (!is_gone).then(|| resource.clone());
        let twin = self.hold_twin(device)?;
        let before = match &kept {
            None => twin.resources.remove(&name),
            Some(resource) => twin.resources.insert(name.clone(), resource.clone()),
        };
        let (before, now) = (before.as_ref().map_or(0, bytes), kept.as_ref().map_or(0, bytes));
        self.cache.twin_bytes = self.cache.twin_bytes.saturating_sub(before) + now;
        self.batch.twins.resources.insert((device, name), kept);
        Ok(())
    }

    fn twin_history_insert(
        &mut self,
        device: &DeviceIdentity,
        name: &str,
        value: &ReportedValue,
    ) -> TxResult<()> {
        self.batch.twins.history.push((device.device, name.to_owned(), value.clone()));
        Ok(())
    }
}

impl PostgresTransaction<'_> {
    /// A twin, held and read unless it is already.
    fn hold_twin(&mut self, device: DeviceKey) -> TxResult<&mut CachedTwin> {
        if !self.cache.twins.contains_key(&device) {
            let twin = self.read_twin(device)?;
            if self.cache.twin_bytes > CACHED_BYTES_MAX {
                // What was changed of them is sent with what was just read.
                self.cache.twins.clear();
                self.cache.twin_bytes = 0;
            }
            self.cache.twin_bytes += twin.resources.values().map(bytes).sum::<usize>();
            self.cache.twins.insert(device, twin);
        }
        match self.cache.twins.get_mut(&device) {
            Some(twin) => Ok(twin),
            // It was put there just now; this keeps the types honest.
            None => Err(covey_core::error::StorageFault::Io),
        }
    }

    fn read_twin(&mut self, device: DeviceKey) -> TxResult<CachedTwin> {
        let holds: [Prepared; 2] = [|sql| &sql.twin.twin, |sql| &sql.twin.twin_make];
        for hold in holds {
            // Each statement sees what was committed before it began: the second
            // begins when the twin is held.
            let resources = self.query(|sql| &sql.twin.twin_resources, values![device.0]);
            let steps = vec![self.query(hold, values![device.0]), resources];
            let mut replies = self.trip(steps)?.into_iter().map(Reply::rows);
            let (held, found) = (replies.next().unwrap_or_default(), replies.next().unwrap_or_default());
            let Some(versions) = self.first(&held, rows::twin_versions)? else {
                self.has_written = true;
                continue;
            };
            let resources = rows::each(&found, rows::twin_resource);
            let resources = self.read(resources)?;
            let resources = resources.into_iter().map(|resource| (resource.name.clone(), resource)).collect();
            return Ok(CachedTwin { versions, resources });
        }
        Err(self.fail(Failure::Again))
    }
}

/// About how much memory a resource takes.
fn bytes(resource: &TwinResource) -> usize {
    let reported = resource.reported.as_ref().and_then(|reported| reported.value.as_ref());
    let desired = resource.desired.as_ref().map(|desired| &desired.value);
    resource.name.len() + reported.map_or(0, |value| value.len()) + desired.map_or(0, |value| value.len())
}
