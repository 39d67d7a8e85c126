//! Claims.

use std::borrow::Cow;

use covey_core::enrolment as core;
use covey_core::port::{Page, PageRequest};

use crate::{Claim, ClaimPage, ClaimSerial, ClaimSerialPage};

impl<'a> Claim<'a> {
    /// How a claim looks.
    #[must_use]
    pub fn of(claim: &'a core::Claim) -> Self {
        Self {
            id: claim.id.0,
            name: Cow::Borrowed(&claim.name),
            certificate_serial: Cow::Borrowed(&claim.serial_hex),
            pattern: claim.pattern.as_ref().map(|pattern| Cow::Borrowed(pattern.as_str())),
            limit: claim.devices_max,
            used: claim.used,
            created_at: claim.created_at.into(),
            expires_at: claim.not_after.into(),
            revoked_at: claim.revoked_at.map(Into::into),
        }
    }
}

impl<'a> ClaimPage<'a> {
    /// How a page of claims looks.
    #[must_use]
    pub fn of(found: &'a Page<core::Claim>, asked: PageRequest) -> Self {
        Self {
            items: found.items.iter().map(Claim::of).collect(),
            total: found.total,
            page: asked.page,
            size: asked.size,
            pages: found.total.div_ceil(u64::from(asked.size.max(1))),
        }
    }
}

impl<'a> ClaimSerial<'a> {
    fn of(serial: &'a core::ClaimSerial) -> Self {
        Self {
            sn: Cow::Borrowed(serial.sn.as_str()),
            device_id: serial.used.map(|(_, device)| device.0),
            used_at: serial.used.map(|(at, _)| at.into()),
            released_at: serial.released_at.map(Into::into),
        }
    }
}

impl<'a> ClaimSerialPage<'a> {
    /// How a page of serial numbers looks.
    #[must_use]
    pub fn of(found: &'a Page<core::ClaimSerial>, asked: PageRequest) -> Self {
        Self {
            items: found.items.iter().map(ClaimSerial::of).collect(),
            total: found.total,
            page: asked.page,
            size: asked.size,
            pages: found.total.div_ceil(u64::from(asked.size.max(1))),
        }
    }
}
