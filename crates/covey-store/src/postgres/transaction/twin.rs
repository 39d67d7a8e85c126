//! Steps on twins. Whatever is asked of a twin, it is held first, so that no
//! other server gives its versions too, and then read whole in the same trip.

use std::collections::BTreeMap;

use covey_core::id::DeviceKey;
use covey_core::port::TxResult;
use covey_core::twin::{DesiredValue, ReportedValue, TwinResource, TwinSteps, TwinVersions};
use uuid::Uuid;

use crate::postgres::pipeline::{Reply, Step, Value, execute, query};
use crate::postgres::session::Session;
use crate::postgres::transaction::PostgresTransaction;
use crate::rows;

/// How many bytes of values of twins a group remembers; beyond that it reads
/// twins again.
const KNOWN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A twin that is held, as it is after the jobs so far.
pub(super) struct KnownTwin {
    versions: TwinVersions,
    resources: BTreeMap<String, TwinResource>,
}

/// What is to be sent of twins, in an order that all servers keep.
#[derive(Default)]
pub(super) struct PendingTwins {
    versions: BTreeMap<DeviceKey, TwinVersions>,
    /// None for one that is gone.
    resources: BTreeMap<(DeviceKey, String), Option<TwinResource>>,
    history: Vec<(DeviceKey, String, ReportedValue)>,
}

impl PendingTwins {
    pub(super) fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.resources.is_empty() && self.history.is_empty()
    }

    /// Everything, as statements.
    pub(super) fn send<'s>(&mut self, session: &'s Session, steps: &mut Vec<Step<'s>>) {
        let Session { client, sql, .. } = session;
        let Self { versions, resources, history } = std::mem::take(self);
        if !versions.is_empty() {
            steps.push(execute(client, &sql.put_twins, version_values(&versions)));
        }
        let gone = resources.iter().filter(|(_, resource)| resource.is_none()).map(|(key, _)| key);
        let gone: (Vec<i64>, Vec<String>) = gone.map(|(device, name)| (device.0, name.clone())).unzip();
        if !gone.0.is_empty() {
            let values = vec![Box::new(gone.0) as _, Box::new(gone.1) as _];
            steps.push(execute(client, &sql.remove_twin_resources, values));
        }
        let kept: Vec<_> = resources
            .iter()
            .filter_map(|((device, _), resource)| resource.as_ref().map(|resource| (*device, resource)))
            .collect();
        if !kept.is_empty() {
            steps.push(execute(client, &sql.put_twin_resources, resource_values(&kept)));
        }
        if !history.is_empty() {
            steps.push(execute(client, &sql.add_twin_history, history_values(&history)));
        }
    }
}

impl TwinSteps for PostgresTransaction<'_> {
    fn twin_versions(&mut self, device: DeviceKey) -> TxResult<TwinVersions> {
        self.hold_twin(device).map(|twin| twin.versions)
    }

    fn twin_versions_put(&mut self, device: DeviceKey, versions: TwinVersions) -> TxResult<()> {
        self.hold_twin(device)?.versions = versions;
        self.pending.twins.versions.insert(device, versions);
        Ok(())
    }

    fn twin_resource(&mut self, device: DeviceKey, name: &str) -> TxResult<Option<TwinResource>> {
        self.hold_twin(device).map(|twin| twin.resources.get(name).cloned())
    }

    fn twin_resources(&mut self, device: DeviceKey) -> TxResult<Vec<TwinResource>> {
        self.hold_twin(device).map(|twin| twin.resources.values().cloned().collect())
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
        self.known.twin_bytes = self.known.twin_bytes.saturating_sub(before) + now;
        self.pending.twins.resources.insert((device, name), kept);
        Ok(())
    }

    fn twin_history_insert(&mut self, device: DeviceKey, name: &str, value: &ReportedValue) -> TxResult<()> {
        self.pending.twins.history.push((device, name.to_owned(), value.clone()));
        Ok(())
    }
}

impl PostgresTransaction<'_> {
    /// A twin, held and read unless it is already.
    fn hold_twin(&mut self, device: DeviceKey) -> TxResult<&mut KnownTwin> {
        if !self.known.twins.contains_key(&device) {
            let twin = self.read_twin(device)?;
            if self.known.twin_bytes > KNOWN_BYTES_MAX {
                // What was changed of them is sent with what was just read.
                self.known.twins.clear();
                self.known.twin_bytes = 0;
            }
            self.known.twin_bytes += twin.resources.values().map(bytes).sum::<usize>();
            self.known.twins.insert(device, twin);
        }
        match self.known.twins.get_mut(&device) {
            Some(twin) => Ok(twin),
            // It was put there just now; this keeps the types honest.
            None => Err(covey_core::error::StorageFault::Io),
        }
    }

    fn read_twin(&mut self, device: DeviceKey) -> TxResult<KnownTwin> {
        let Session { client, sql, .. } = self.session;
        let of_device = || vec![Box::new(device.0) as Value<'_>];
        for hold in [&sql.twin, &sql.make_twin] {
            // Each statement sees what was committed before it began: the second
            // begins when the twin is held.
            let steps =
                vec![query(client, hold, of_device()), query(client, &sql.twin_resources, of_device())];
            let mut replies = self.trip(steps)?.into_iter().map(Reply::rows);
            let (held, found) = (replies.next().unwrap_or_default(), replies.next().unwrap_or_default());
            let Some(versions) = self.first(&held, rows::twin_versions)? else {
                self.has_written = true;
                continue;
            };
            let resources = rows::each(&found, rows::twin_resource);
            let resources = self.read(resources)?;
            let resources = resources.into_iter().map(|resource| (resource.name.clone(), resource)).collect();
            return Ok(KnownTwin { versions, resources });
        }
        Err(self.fail(crate::postgres::fault::Failure::Again))
    }
}

/// About how much memory a resource takes.
fn bytes(resource: &TwinResource) -> usize {
    let reported = resource.reported.as_ref().and_then(|reported| reported.value.as_ref());
    let desired = resource.desired.as_ref().map(|desired| &desired.value);
    resource.name.len() + reported.map_or(0, |value| value.len()) + desired.map_or(0, |value| value.len())
}

fn version_values<'v>(all: &BTreeMap<DeviceKey, TwinVersions>) -> Vec<Value<'v>> {
    vec![
        Box::new(all.keys().map(|device| device.0).collect::<Vec<i64>>()),
        Box::new(all.values().map(|versions| versions.reported).collect::<Vec<i64>>()),
        Box::new(all.values().map(|versions| versions.desired).collect::<Vec<i64>>()),
    ]
}

fn resource_values<'v>(all: &[(DeviceKey, &TwinResource)]) -> Vec<Value<'v>> {
    let reported = |of: fn(&ReportedValue) -> i64| -> Value<'v> {
        let all = all.iter().map(|(_, resource)| resource.reported.as_ref().map(of));
        Box::new(all.collect::<Vec<Option<i64>>>())
    };
    let desired = |of: fn(&DesiredValue) -> i64| -> Value<'v> {
        let all = all.iter().map(|(_, resource)| resource.desired.as_ref().map(of));
        Box::new(all.collect::<Vec<Option<i64>>>())
    };
    let reported_text = |resource: &TwinResource| {
        resource.reported.as_ref().and_then(|reported| reported.value.as_deref().map(ToOwned::to_owned))
    };
    let desired_of = |resource: &'_ TwinResource| resource.desired.clone();
    vec![
        Box::new(all.iter().map(|(device, _)| device.0).collect::<Vec<i64>>()),
        Box::new(all.iter().map(|(_, resource)| resource.name.clone()).collect::<Vec<String>>()),
        Box::new(all.iter().map(|(_, resource)| reported_text(resource)).collect::<Vec<Option<String>>>()),
        reported(|reported| reported.version),
        reported(|reported| reported.at.0),
        Box::new(
            all.iter()
                .map(|(_, resource)| desired_of(resource).map(|desired| desired.value.to_string()))
                .collect::<Vec<Option<String>>>(),
        ),
        desired(|desired| desired.version),
        desired(|desired| desired.at.0),
        Box::new(
            all.iter()
                .map(|(_, resource)| desired_of(resource).map(|desired| desired.task.0))
                .collect::<Vec<Option<Uuid>>>(),
        ),
    ]
}

fn history_values<'v>(all: &[(DeviceKey, String, ReportedValue)]) -> Vec<Value<'v>> {
    let values = all.iter().map(|(_, _, value)| value.value.as_deref().map(ToOwned::to_owned));
    vec![
        Box::new(all.iter().map(|(device, ..)| device.0).collect::<Vec<i64>>()),
        Box::new(all.iter().map(|(_, name, _)| name.clone()).collect::<Vec<String>>()),
        Box::new(all.iter().map(|(_, _, value)| value.version).collect::<Vec<i64>>()),
        Box::new(all.iter().map(|(_, _, value)| value.at.0).collect::<Vec<i64>>()),
        Box::new(values.collect::<Vec<Option<String>>>()),
    ]
}
