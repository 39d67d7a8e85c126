//! What a group writes of twins.

use std::collections::BTreeMap;

use covey_core::id::DeviceKey;
use covey_core::twin::{ReportedValue, TwinResource, TwinVersions};

use crate::postgres::pipeline::{Step, Value, column, execute, values};
use crate::postgres::session::Session;

/// What is to be sent of twins, in an order that all servers keep.
#[derive(Default)]
pub(crate) struct TwinBatch {
    pub(super) versions: BTreeMap<DeviceKey, TwinVersions>,
    /// None for one that is gone.
    pub(super) resources: BTreeMap<(DeviceKey, String), Option<TwinResource>>,
    pub(super) history: Vec<(DeviceKey, String, ReportedValue)>,
}

impl TwinBatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.resources.is_empty() && self.history.is_empty()
    }

    /// Everything, as statements.
    pub(crate) fn send<'s>(&mut self, session: &'s Session, steps: &mut Vec<Step<'s>>) {
        let Session { client, sql, .. } = session;
        let Self { versions, resources, history } = std::mem::take(self);
        if !versions.is_empty() {
            steps.push(execute(client, &sql.twin.twin_versions_put, version_values(&versions)));
        }
        let gone = resources.iter().filter(|(_, resource)| resource.is_none()).map(|(key, _)| key);
        let gone: (Vec<i64>, Vec<String>) = gone.map(|(device, name)| (device.0, name.clone())).unzip();
        if !gone.0.is_empty() {
            let values = values![gone.0, gone.1];
            steps.push(execute(client, &sql.twin.twin_resource_remove, values));
        }
        let kept: Vec<_> = resources
            .iter()
            .filter_map(|((device, _), resource)| resource.as_ref().map(|resource| (*device, resource)))
            .collect();
        if !kept.is_empty() {
            steps.push(execute(client, &sql.twin.twin_resource_put, resource_values(&kept)));
        }
        if !history.is_empty() {
            steps.push(execute(client, &sql.twin.twin_history_insert, history_values(&history)));
        }
    }
}

fn version_values<'v>(all: &BTreeMap<DeviceKey, TwinVersions>) -> Vec<Value<'v>> {
    vec![
        column(all.keys(), |device| device.0),
        column(all.values(), |versions| versions.reported),
        column(all.values(), |versions| versions.desired),
    ]
}

fn resource_values<'v>(all: &[(DeviceKey, &TwinResource)]) -> Vec<Value<'v>> {
    let reported = || all.iter().map(|(_, resource)| resource.reported.as_ref());
    let desired = || all.iter().map(|(_, resource)| resource.desired.as_ref());
    let text = |one: &ReportedValue| one.value.as_deref().map(ToOwned::to_owned);
    vec![
        column(all, |(device, _)| device.0),
        column(all, |(_, resource)| resource.name.clone()),
        column(reported(), |one| one.and_then(text)),
        column(reported(), |one| one.map(|one| one.version)),
        column(reported(), |one| one.map(|one| one.at.0)),
        column(desired(), |one| one.map(|one| one.value.to_string())),
        column(desired(), |one| one.map(|one| one.version)),
        column(desired(), |one| one.map(|one| one.at.0)),
        column(desired(), |one| one.map(|one| one.task.0)),
    ]
}

fn history_values<'v>(all: &[(DeviceKey, String, ReportedValue)]) -> Vec<Value<'v>> {
    vec![
        column(all, |(device, ..)| device.0),
        column(all, |(_, name, _)| name.clone()),
        column(all, |(_, _, value)| value.version),
        column(all, |(_, _, value)| value.at.0),
        column(all, |(_, _, value)| value.value.as_deref().map(ToOwned::to_owned)),
    ]
}
