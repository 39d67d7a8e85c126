//! Reads of devices.

use covey_core::access::Caller;
use covey_core::device::{
    DeviceFilter, DeviceIdentity, DevicePage, DeviceReader, NamedDevice, TaggedDevice, TagsOf,
};
use covey_core::id::{DeviceId, DeviceKey, OrgId, Sn};
use covey_core::port::{Entries, Found, Page, PageRequest, ReadKind, Turn};
use tokio_postgres::types::Type;

use crate::postgres::Postgres;
use crate::postgres::device::{DEVICE_COLUMNS, device, device_columns};
use crate::postgres::lists::{Conditions, entries, page, within};
use crate::postgres::pipeline::values;
use crate::postgres::pool::ReadSession;
use crate::rows::{self, ListColumns, ListScope, Read};

impl DeviceReader for Postgres {
    fn device_list(
        &self,
        caller: &Caller,
        filter: DeviceFilter,
        page: PageRequest,
        bytes_max: usize,
    ) -> Found<'_, DevicePage> {
        let (org, scope) = (caller.org, ListScope::of(caller, ListColumns::DEVICES));
        self.reads.read(
            ReadKind::of_devices(&filter).within(scope.is_some()),
            Turn::Org(org),
            move |session| {
                let (filter, scope) = (filter.clone(), scope.clone());
                Box::pin(
                    async move { device_page(session, org, scope.as_ref(), &filter, page, bytes_max).await },
                )
            },
        )
    }

    fn device_tags(&self, caller: &Caller, device: TagsOf) -> Found<'_, Option<TaggedDevice>> {
        let (kind, turn, org) = (ReadKind::DeviceTags, Turn::Org(caller.org), caller.org.0);
        let found = match device {
            TagsOf::Key(DeviceKey(key)) => {
                self.rows(kind, turn, |sql| &sql.device.tags_of_key, values![key, org], rows::tagged)
            }
            TagsOf::Id(DeviceId(id)) => {
                self.rows(kind, turn, |sql| &sql.device.tags_of_id, values![id, org], rows::tagged)
            }
        };
        Box::pin(async move { Ok(rows::tagged_device(found.await?)) })
    }

    fn device_of_name_of_every_org(&self, sn: Sn) -> Found<'_, Option<NamedDevice>> {
        self.row(
            ReadKind::DeviceOfName,
            Turn::Server,
            |sql| &sql.device.device_of_name,
            values![sn.as_str().to_owned()],
            rows::named_device,
        )
    }

    fn device_of_sn_of_every_org(&self, sn: Sn) -> Found<'_, Option<DeviceIdentity>> {
        self.row(
            ReadKind::DeviceOfSn,
            Turn::Server,
            |sql| &sql.device.device_of_sn,
            values![sn.as_str().to_owned()],
            rows::identity,
        )
    }

    fn device_sns_of_every_org(&self, after: Option<Sn>, limit: u32) -> Found<'_, Vec<Sn>> {
        let after = after.as_ref().map_or("", Sn::as_str).to_owned();
        let values = values![after, i64::from(limit)];
        self.rows(ReadKind::DeviceSns, Turn::Server, |sql| &sql.device.device_sns, values, rows::first)
    }

    fn device_of_certificate_of_every_org(
        &self,
        sn: Sn,
        serial_hex: String,
    ) -> Found<'_, Option<DeviceIdentity>> {
        let values = values![serial_hex, sn.as_str().to_owned()];
        self.row(
            ReadKind::DeviceOfCertificate,
            Turn::Server,
            |sql| &sql.device.device_of_certificate,
            values,
            rows::identity,
        )
    }
}

pub(crate) async fn device_page(
    session: &ReadSession,
    org: OrgId,
    scope: Option<&ListScope>,
    filter: &DeviceFilter,
    request: PageRequest,
    bytes_max: usize,
) -> Read<DevicePage> {
    let mut conditions = Conditions::default();
    conditions.number("d.org_id = #", Some(org.0));
    conditions.scope(scope);
    conditions.number("d.device_id = #", filter.device_id.map(|id| id.0));
    conditions.text("d.sn = #", filter.sn.as_deref());
    if let Some(online) = filter.online {
        conditions.add("coalesce(c.online, false) = #", online, Type::BOOL);
    }
    if let Some((tag, value)) = &filter.tag {
        let tagged = "EXISTS (SELECT 1 FROM device_tags g WHERE g.device_key = d.id AND g.org_id = d.org_id";
        conditions.text(&format!("{tagged} AND g.tag = #"), Some(tag));
        match value {
            None => conditions.sql.push("true)".to_owned()),
            Some(value) => {
                conditions.text("left(g.value, 64) = left(#, 64) AND g.value = #)", Some(value));
            }
        }
    }
    if conditions.is_impossible {
        return Ok(Page { items: Vec::new(), total: 0, is_cut: false });
    }
    let clause = conditions.clause();
    let from = "devices d LEFT JOIN connections c ON c.device_key = d.id";
    let total = format!("SELECT count(*) FROM {from} WHERE d.retired_at IS NULL AND {clause}");
    let rows = format!(
        "{from} WHERE d.retired_at IS NULL AND {clause} ORDER BY d.device_id LIMIT {} OFFSET {}",
        request.size,
        request.offset()
    );
    let items = within(device_columns!(), &rows, "octet_length(w.tags)", "w.device_id", bytes_max);
    let (total, found) = page(session, &conditions, &total, &items).await?;
    let Entries { items, is_cut } = entries(&found, DEVICE_COLUMNS, device)?;
    Ok(Page { items, total, is_cut })
}
