//! What a group writes of twins.

use std::collections::BTreeMap;

use covey_core::id::DeviceKey;
use covey_core::twin::{DesiredValue, ReportedValue, TwinResource, TwinVersions};
use uuid::Uuid;

use crate::postgres::pipeline::{Step, Value, execute};
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
            let values = vec![Box::new(gone.0) as _, Box::new(gone.1) as _];
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
