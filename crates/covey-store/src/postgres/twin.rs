//! Twins. Whatever is asked of a twin, it is held first, so that no other server gives
//! its versions too, and then read whole in the same trip.

use std::collections::BTreeMap;

use covey_core::access::Caller;
use covey_core::error::Result;
use covey_core::id::{DeviceId, DeviceKey};
use covey_core::port::{BoxFuture, TxResult};
use covey_core::twin::{
    DesiredValue, ReportedValue, Twin, TwinReader, TwinResource, TwinSteps, TwinVersions,
};
use uuid::Uuid;

use crate::postgres::Postgres;
use crate::postgres::fault::Failure;
use crate::postgres::lists::SNAPSHOT;
use crate::postgres::pipeline::{self, Reply, Step, Value, execute, query};
use crate::postgres::session::Session;
use crate::postgres::statements::prepared;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// The versions of a twin. Held until the commit, so that none is given
        /// twice; whoever has waited for it comes later in the outbox, too.
        twin: "SELECT t.reported_version, t.desired_version FROM twins t \
             WHERE t.device_key = $1 AND 1 / (age(t.xmin) >= 0)::int4 = 1 FOR UPDATE";
        /// The same of a twin that may never have been touched: makes the row that is held.
        twin_make: "INSERT INTO twins AS t (device_key, reported_version, desired_version) VALUES ($1, 0, 0) \
             ON CONFLICT (device_key) DO UPDATE SET reported_version = t.reported_version \
             WHERE 1 / (age(t.xmin) >= 0)::int4 = 1 RETURNING reported_version, desired_version";
        /// The resources of a twin.
        twin_resources: concat!("SELECT ", rows::twin_resource_columns!(), " FROM twin_resources r \
             WHERE r.device_key = $1 ORDER BY r.name");
        /// Versions of twins that are held: devices, reported, desired.
        twin_versions_put: "UPDATE twins t SET reported_version = n.reported, desired_version = n.desired \
             FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS n (device_key, reported, desired) \
             WHERE t.device_key = n.device_key";
        /// Resources of twins that are held: devices, names, and a value of each column.
        twin_resource_put: "INSERT INTO twin_resources (device_key, name, reported, reported_version, reported_at, \
             desired, desired_version, desired_at, desired_task) SELECT * FROM unnest($1::int8[], $2::text[], \
             $3::text[], $4::int8[], $5::int8[], $6::text[], $7::int8[], $8::int8[], $9::uuid[]) \
             ON CONFLICT (device_key, name) DO UPDATE SET reported = excluded.reported, \
             reported_version = excluded.reported_version, reported_at = excluded.reported_at, \
             desired = excluded.desired, desired_version = excluded.desired_version, \
             desired_at = excluded.desired_at, desired_task = excluded.desired_task";
        /// Resources that have neither value any more: devices, names.
        twin_resource_remove: "DELETE FROM twin_resources r USING unnest($1::int8[], $2::text[]) \
             AS n (device_key, name) WHERE r.device_key = n.device_key AND r.name = n.name";
        /// What was reported: devices, names, versions, instants, values.
        twin_history_insert: "INSERT INTO twin_history (org_id, device_key, name, version, at, value) \
             SELECT d.org_id, n.device_key, n.name, n.version, n.at, n.value FROM unnest($1::int8[], $2::text[], \
             $3::int8[], $4::int8[], $5::text[]) WITH ORDINALITY AS n (device_key, name, version, at, value, place) \
             JOIN devices d ON d.id = n.device_key ORDER BY n.place";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// A device with the versions of its twin: organisation, number.
        twin: "SELECT d.id, d.org_id, d.device_id, d.sn, coalesce(t.reported_version, 0), \
             coalesce(t.desired_version, 0) FROM devices d LEFT JOIN twins t ON t.device_key = d.id \
             WHERE d.org_id = $1 AND d.device_id = $2 AND d.retired_at IS NULL";
        /// The resources of its twin: organisation, number.
        twin_resources: concat!("SELECT ", rows::twin_resource_columns!(), " FROM twin_resources r WHERE r.device_key = \
             (SELECT d.id FROM devices d WHERE d.org_id = $1 AND d.device_id = $2 AND d.retired_at IS NULL) \
             ORDER BY r.name");
        /// What it reported of one, newest first: organisation, number, name, before, limit.
        twin_history: "SELECT h.value, h.version, h.at FROM twin_history h WHERE h.device_key = \
             (SELECT d.id FROM devices d WHERE d.org_id = $1 AND d.device_id = $2 AND d.retired_at IS NULL) \
             AND h.name = $3 AND h.version < $4 ORDER BY h.version DESC LIMIT $5";
    }
}

impl TwinReader for Postgres {
    fn twin_get(&self, caller: &Caller, device: DeviceId) -> BoxFuture<'_, Result<Option<Twin>>> {
        let org = caller.org;
        self.reads.read(move |session| {
            Box::pin(async move {
                let (client, sql) = (&session.client, &session.sql);
                let of_device = || vec![Box::new(org.0) as _, Box::new(device.0) as _];
                let steps = vec![
                    pipeline::batch(client, SNAPSHOT),
                    query(client, &sql.twin.twin, of_device()),
                    query(client, &sql.twin.twin_resources, of_device()),
                    pipeline::batch(client, "COMMIT"),
                ];
                let mut replies = pipeline::run(steps).await?.into_iter().skip(1).map(Reply::rows);
                let found = replies.next().unwrap_or_default();
                let Some(row) = found.first() else { return Ok(None) };
                let resources = replies.next().unwrap_or_default();
                let resources = rows::each(&resources, rows::twin_resource)?;
                let (device, versions) = (rows::identity(row)?, rows::twin_versions_at(row, 4)?);
                Ok(Some(Twin { device, versions, resources }))
            })
        })
    }

    fn twin_history(
        &self,
        caller: &Caller,
        device: DeviceId,
        resource: String,
        before: Option<i64>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Option<Vec<ReportedValue>>>> {
        let org = caller.org;
        // PostgreSQL's text holds no NUL, so no resource has such a name.
        let limit = if resource.contains('\0') { 0 } else { i64::from(limit) };
        let resource = resource.replace('\0', "");
        let before = before.unwrap_or(i64::MAX);
        self.reads.read(move |session| {
            let resource = resource.clone();
            Box::pin(async move {
                let (client, sql) = (&session.client, &session.sql);
                let values = vec![
                    Box::new(org.0) as _,
                    Box::new(device.0) as _,
                    Box::new(resource) as _,
                    Box::new(before) as _,
                    Box::new(limit) as _,
                ];
                let of_device = vec![Box::new(org.0) as _, Box::new(device.0) as _];
                let steps = vec![
                    query(client, &sql.twin.twin, of_device),
                    query(client, &sql.twin.twin_history, values),
                ];
                let mut replies = pipeline::run(steps).await?.into_iter().map(Reply::rows);
                if replies.next().unwrap_or_default().is_empty() {
                    return Ok(None);
                }
                let values = replies.next().unwrap_or_default();
                rows::each(&values, rows::reported_value).map(Some)
            })
        })
    }
}

/// How many bytes of values of twins a group remembers; beyond that it reads
/// twins again.
const CACHED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A twin that is held, as it is after the jobs so far.
pub(crate) struct CachedTwin {
    versions: TwinVersions,
    resources: BTreeMap<String, TwinResource>,
}

/// What is to be sent of twins, in an order that all servers keep.
#[derive(Default)]
pub(crate) struct TwinBatch {
    versions: BTreeMap<DeviceKey, TwinVersions>,
    /// None for one that is gone.
    resources: BTreeMap<(DeviceKey, String), Option<TwinResource>>,
    history: Vec<(DeviceKey, String, ReportedValue)>,
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

impl TwinSteps for PostgresTransaction<'_> {
    fn twin_versions(&mut self, device: DeviceKey) -> TxResult<TwinVersions> {
        self.hold_twin(device).map(|twin| twin.versions)
    }

    fn twin_versions_put(&mut self, device: DeviceKey, versions: TwinVersions) -> TxResult<()> {
        self.hold_twin(device)?.versions = versions;
        self.batch.twins.versions.insert(device, versions);
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
        self.cache.twin_bytes = self.cache.twin_bytes.saturating_sub(before) + now;
        self.batch.twins.resources.insert((device, name), kept);
        Ok(())
    }

    fn twin_history_insert(&mut self, device: DeviceKey, name: &str, value: &ReportedValue) -> TxResult<()> {
        self.batch.twins.history.push((device, name.to_owned(), value.clone()));
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
        let Session { client, sql, .. } = self.session;
        let of_device = || vec![Box::new(device.0) as Value<'_>];
        for hold in [&sql.twin.twin, &sql.twin.twin_make] {
            // Each statement sees what was committed before it began: the second
            // begins when the twin is held.
            let steps =
                vec![query(client, hold, of_device()), query(client, &sql.twin.twin_resources, of_device())];
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
