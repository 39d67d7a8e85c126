//! Nodes.

use std::borrow::Cow;

use covey_core::node as core;
use covey_core::port::{Page, PageRequest};

use crate::{Node, NodePage};

impl<'a> Node<'a> {
    /// How a node looks.
    #[must_use]
    pub fn of(node: &'a core::Node) -> Self {
        Self {
            id: node.id.0,
            gateway: Cow::Borrowed(node.name.gateway().as_str()),
            uid: Cow::Borrowed(node.name.uid()),
            state: Cow::Borrowed(node.state.name()),
            address: Cow::Borrowed(&node.address),
            passing: node.is_passing,
            device_id: node.device.as_ref().map(|device| device.device_id.0),
            sn: node.device.as_ref().map(|device| Cow::Borrowed(device.sn.as_str())),
            first_seen: node.first_seen.into(),
            last_asked: node.last_asked.into(),
        }
    }
}

impl<'a> NodePage<'a> {
    /// How a page of nodes looks.
    #[must_use]
    pub fn of(found: &'a Page<core::Node>, asked: PageRequest) -> Self {
        Self {
            items: found.items.iter().map(Node::of).collect(),
            total: found.total,
            page: asked.page,
            size: asked.size,
            pages: found.total.div_ceil(u64::from(asked.size.max(1))),
        }
    }
}
