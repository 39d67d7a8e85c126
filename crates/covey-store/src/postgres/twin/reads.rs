//! Reads of twins.

use covey_core::access::Caller;
use covey_core::error::Result;
use covey_core::id::DeviceId;
use covey_core::port::BoxFuture;
use covey_core::twin::{ReportedValue, Twin, TwinReader};

use crate::postgres::Postgres;
use crate::postgres::lists::SNAPSHOT;
use crate::postgres::pipeline::{self, Reply, query};
use crate::rows;

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
