//! How a device looks to an application.

use std::collections::BTreeMap;

use covey_core::device::{Device, Presence, Tag};
use covey_core::event::Gauge;
use serde::Serialize;
use utoipa::ToSchema;

use crate::gauges::GaugeView;
use crate::wire::Time;

/// A device.
#[derive(Serialize, ToSchema)]
#[schema(as = Device)]
pub(super) struct DeviceView<'a> {
    /// The number of its registration; a new one when it is registered anew.
    id: i64,
    /// Its number for applications.
    #[schema(minimum = 1)]
    device_id: i64,
    /// Its serial number.
    sn: &'a str,
    /// Its gauges, by type.
    device_gauges: Vec<GaugeView<'a>>,
    /// Its connection; null if it never had one.
    #[schema(required = true)]
    connection: Option<ConnectionView<'a>>,
    /// Its tags, in the order of their names.
    device_tags: Vec<TagView<'a>>,
    /// When it was registered.
    created_at: Time,
}

/// A device's last known connection.
#[derive(Serialize, ToSchema)]
#[schema(as = DeviceConnection)]
struct ConnectionView<'a> {
    /// The device's number.
    device_id: i64,
    /// Its MQTT client id, which is its serial number.
    client_id: &'a str,
    /// When it last connected.
    #[schema(required = true)]
    connected_at: Option<Time>,
    /// When the connection last changed or was looked at.
    #[schema(required = true)]
    checked_at: Option<Time>,
    /// Whether it was connected then.
    last_checked_result: bool,
    /// More about the connection, by name: `address`, `protocol`, `reason`.
    #[schema(value_type = Option<BTreeMap<String, String>>, required = true)]
    details: Option<BTreeMap<&'a str, &'a str>>,
}

/// A name with a value, given to a device by an application.
#[derive(Serialize, ToSchema)]
#[schema(as = DeviceTag)]
struct TagView<'a> {
    /// The name.
    tag: &'a str,
    /// The value.
    value: &'a str,
}

impl<'a> DeviceView<'a> {
    /// How a device looks.
    pub(super) fn of(device: &'a Device, gauges: &'a [Gauge]) -> Self {
        let identity = &device.identity;
        let own = gauges.iter().filter(|gauge| gauge.device_id == identity.device_id);
        Self {
            id: identity.device.0,
            device_id: identity.device_id.0,
            sn: identity.sn.as_str(),
            device_gauges: own.map(GaugeView::of).collect(),
            connection: device.presence.as_ref().map(|presence| ConnectionView::of(device, presence)),
            device_tags: device.tags.iter().map(TagView::of).collect(),
            created_at: Time(device.created_at),
        }
    }
}

impl<'a> ConnectionView<'a> {
    fn of(device: &'a Device, presence: &'a Presence) -> Self {
        let details: BTreeMap<_, _> =
            presence.details.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Self {
            device_id: device.identity.device_id.0,
            client_id: device.identity.sn.as_str(),
            connected_at: presence.connected_at.map(Time),
            checked_at: Some(Time(presence.checked_at)),
            last_checked_result: presence.online,
            details: (!details.is_empty()).then_some(details),
        }
    }
}

impl<'a> TagView<'a> {
    fn of(tag: &'a Tag) -> Self {
        Self { tag: &tag.tag, value: &tag.value }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::device::DeviceIdentity;
    use covey_core::id::{DeviceId, DeviceKey, OrgId, Sn, UnixMs};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_device_has_the_fields_of_the_contract() {
        let identity = DeviceIdentity {
            org: OrgId(1),
            device: DeviceKey(3),
            device_id: DeviceId(7),
            sn: Sn::parse("d-7").unwrap(),
        };
        let tags = vec![Tag { tag: "room".to_owned(), value: "hall".to_owned() }];
        let presence = Presence {
            online: true,
            connected_at: Some(UnixMs(1_000)),
            checked_at: UnixMs(2_000),
            reason: covey_core::presence::Reason::Connected,
            details: vec![("protocol".to_owned(), "mqtt".to_owned())],
            session: "s-1".to_owned(),
            server: "server-1".to_owned(),
        };
        let device = Device { identity, created_at: UnixMs(0), tags, presence: Some(presence) };
        assert_eq!(
            serde_json::to_value(DeviceView::of(&device, &[])).unwrap(),
            json!({
                "id": 3, "device_id": 7, "sn": "d-7", "device_gauges": [],
                "connection": {
                    "device_id": 7, "client_id": "d-7", "connected_at": "1970-01-01T00:00:01.000Z",
                    "checked_at": "1970-01-01T00:00:02.000Z", "last_checked_result": true,
                    "details": {"protocol": "mqtt"},
                },
                "device_tags": [{"tag": "room", "value": "hall"}],
                "created_at": "1970-01-01T00:00:00.000Z",
            })
        );
    }
}
