//! Organisations.

use std::borrow::Cow;

use covey_core::access as core;
use covey_core::port::{Page, PageRequest};

use crate::{Org, OrgPage};

impl<'a> Org<'a> {
    /// How an organisation looks.
    #[must_use]
    pub fn of(org: &'a core::Org) -> Self {
        Self {
            id: org.id.0,
            name: Cow::Borrowed(&org.name),
            created_at: org.created_at.into(),
            devices: org.devices,
            keys: org.keys,
        }
    }
}

impl<'a> OrgPage<'a> {
    /// How a page of organisations looks.
    #[must_use]
    pub fn of(found: &'a Page<core::Org>, asked: PageRequest) -> Self {
        Self {
            items: found.items.iter().map(Org::of).collect(),
            total: found.total,
            page: asked.page,
            size: asked.size,
            pages: found.total.div_ceil(u64::from(asked.size.max(1))),
        }
    }
}
