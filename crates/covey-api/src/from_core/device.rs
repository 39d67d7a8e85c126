//! Devices, their connections and tags.

use std::borrow::Cow;

use covey_core::device::{self as core, Presence};
use covey_core::event::Gauge;
use covey_core::node::NodeName;

use crate::{Device, DeviceConnection, DeviceGauges, DeviceNode, DeviceTag};

impl<'a> Device<'a> {
    /// How a device looks; of the gauges, those of other devices are left out.
    #[must_use]
    pub fn of(device: &'a core::Device, gauges: &'a [Gauge]) -> Self {
        let identity = &device.identity;
        let own = gauges.iter().filter(|gauge| gauge.device_id == identity.device_id);
        Self {
            id: identity.device.0,
            device_id: identity.device_id.0,
            sn: Cow::Borrowed(identity.sn.as_str()),
            device_gauges: own.map(DeviceGauges::of).collect(),
            connection: device.presence.as_ref().map(|presence| DeviceConnection::of(device, presence)),
            device_tags: device.tags.iter().map(DeviceTag::of).collect(),
            created_at: device.created_at.into(),
            node: device.node.as_ref().map(DeviceNode::of),
        }
    }
}

impl<'a> DeviceConnection<'a> {
    fn of(device: &'a core::Device, presence: &'a Presence) -> Self {
        let details = presence.details.iter();
        let details = details.map(|(name, value)| (Cow::Borrowed(&**name), Cow::Borrowed(&**value)));
        Self {
            device_id: device.identity.device_id.0,
            client_id: Cow::Borrowed(device.identity.sn.as_str()),
            connected_at: presence.connected_at.map(Into::into),
            checked_at: Some(presence.checked_at.into()),
            last_checked_result: presence.online,
            details: (!presence.details.is_empty()).then(|| details.collect()),
        }
    }
}

impl<'a> DeviceNode<'a> {
    fn of(name: &'a NodeName) -> Self {
        Self { gateway: Cow::Borrowed(name.gateway().as_str()), uid: Cow::Borrowed(name.uid()) }
    }
}

impl<'a> DeviceTag<'a> {
    fn of(tag: &'a core::Tag) -> Self {
        Self { tag: Cow::Borrowed(&tag.tag), value: Cow::Borrowed(&tag.value) }
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
        let tags = vec![core::Tag { tag: "room".to_owned(), value: "hall".to_owned() }];
        let presence = Presence {
            online: true,
            connected_at: Some(UnixMs(1_000)),
            checked_at: UnixMs(2_000),
            reason: covey_core::presence::Reason::Connected,
            details: vec![("protocol".to_owned(), "mqtt".to_owned())],
            session: "s-1".to_owned(),
            server: "server-1".to_owned(),
        };
        let (presence, node) = (Some(presence), None);
        let mut device = core::Device { identity, created_at: UnixMs(0), tags, presence, node };
        assert_eq!(
            serde_json::to_value(Device::of(&device, &[])).unwrap(),
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
        let gateway = covey_core::node::GatewayName::parse("coap").unwrap();
        device.node = Some(NodeName::parse(gateway, "a/7").unwrap());
        let shown = serde_json::to_value(Device::of(&device, &[])).unwrap();
        assert_eq!(shown["node"], json!({"gateway": "coap", "uid": "a/7"}));
    }
}
