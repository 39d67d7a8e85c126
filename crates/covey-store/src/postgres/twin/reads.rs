//! Reads of twins.

use covey_core::access::Caller;
use covey_core::id::DeviceId;
use covey_core::port::{Found, LIST_BYTES_MAX, ReadKind, Turn};
use covey_core::twin::{ReportedValue, Twin, TwinReader};

use crate::postgres::Postgres;
use crate::postgres::lists::SNAPSHOT;
use crate::postgres::pipeline::{self, Reply, values};
use crate::rows;

impl TwinReader for Postgres {
    fn twin_get(&self, caller: &Caller, device: DeviceId) -> Found<'_, Option<Twin>> {
        let org = caller.org;
        self.reads.read(ReadKind::Twin, Turn::Org(org), move |session| {
            Box::pin(async move {
                let steps = [
                    session.query(|sql| &sql.twin.twin, values![org.0, device.0]),
                    session.query(|sql| &sql.twin.twin_resources, values![org.0, device.0]),
                ];
                let [found, resources] = session.at_one_moment(SNAPSHOT, steps).await?;
                let Some(row) = found.first() else { return Ok(None) };
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
    ) -> Found<'_, Option<Vec<ReportedValue>>> {
        let org = caller.org;
        // PostgreSQL's text holds no NUL, so no resource has such a name.
        let limit = if resource.contains('\0') { 0 } else { i64::from(limit) };
        let resource = resource.replace('\0', "");
        let before = before.unwrap_or(i64::MAX);
        let bytes_max = i64::try_from(LIST_BYTES_MAX).unwrap_or(i64::MAX);
        self.reads.read(ReadKind::TwinHistory, Turn::Org(org), move |session| {
            let resource = resource.clone();
            Box::pin(async move {
                let values = values![org.0, device.0, resource, before, limit, bytes_max];
                let steps = vec![
                    session.query(|sql| &sql.twin.twin, values![org.0, device.0]),
                    session.query(|sql| &sql.twin.twin_history, values),
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
