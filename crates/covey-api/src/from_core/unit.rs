//! Units.

use std::borrow::Cow;

use covey_core::port::{Page, PageRequest};
use covey_core::unit as core;

use crate::{Unit, UnitPage};

impl<'a> Unit<'a> {
    /// How a unit looks.
    #[must_use]
    pub fn of(unit: &'a core::Unit) -> Self {
        Self {
            id: unit.id.0,
            name: Cow::Borrowed(unit.name.uid()),
            address: Cow::Owned(unit.address.ip().to_string()),
            port: unit.address.port(),
            kind: Cow::Borrowed(unit.kind.name()),
            resource: Cow::Borrowed(&unit.resource),
            sn: Cow::Owned(unit.name.sn().as_str().to_owned()),
            server: unit.speaker.as_ref().map(|(server, _)| Cow::Borrowed(&**server)),
            created_at: unit.created_at.into(),
        }
    }
}

impl<'a> UnitPage<'a> {
    /// How a page of units looks.
    #[must_use]
    pub fn of(found: &'a Page<core::Unit>, asked: PageRequest) -> Self {
        Self {
            items: found.items.iter().map(Unit::of).collect(),
            total: found.total,
            page: asked.page,
            size: asked.size,
            pages: found.total.div_ceil(u64::from(asked.size.max(1))),
        }
    }
}
