//! Why somebody may do something, or may not: decided by what decides it when it is done.

use crate::access::{Caller, CallerKind, Grant, Matter, Rights};
use crate::budget::Weight;
use crate::device::{Tag, TagsOf};
use crate::engine::ForCaller;
use crate::error::{Error, Result};

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// The rights that it takes, all of them.
    pub rights: Rights,
    /// The device that it is about, if it is about one.
    pub device: Option<TagsOf>,
    /// What it is about: one of these.
    pub matters: Vec<Matter<'a>>,
    /// Whether rights for some devices do for it.
    pub is_grantable: bool,
}

/// What came of one right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// It is had for the whole organisation.
    Right,
    /// This grant gives it.
    Grant(Grant),
    /// Grants give it for some devices; which is not asked, so what is listed is what they give.
    SomeGrants,
    /// It is not had at all.
    NoRight,
    /// Grants give it, but not for this device, method or kind of data.
    NoGrant,
    /// Grants give it, and this takes it for the whole organisation.
    NotWhole,
}

/// Why somebody may do something, or may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Who would ask.
    pub caller: Caller,
    /// Whether its credential has expired.
    pub is_expired: bool,
    /// The tags of the device that was asked about.
    pub tags: Vec<Tag>,
    /// What came of each right that it takes.
    pub rights: Vec<(&'static str, Because)>,
}

impl Because {
    /// Whether it is a yes.
    #[must_use]
    pub const fn is_yes(&self) -> bool {
        matches!(self, Self::Right | Self::Grant(_) | Self::SomeGrants)
    }
}

impl Explanation {
    /// Whether it may do it.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        !self.is_expired && self.rights.iter().all(|(_, because)| because.is_yes())
    }
}

impl ForCaller<'_> {
    /// Why the caller may do something, or may not; or a key of its organisation, with the right orgs:admin one of any. What
    /// the caller may not know of a device, it is not told here either.
    ///
    /// # Errors
    /// A missing right for the key of somebody else, [`Error::NotFound`] for the key or the device, too many requests, or
    /// the store's.
    pub async fn access_explain(self, key: Option<i64>, question: Question<'_>) -> Result<Explanation> {
        self.charge(Weight::IDLE_STEP)?;
        let store = &self.engine.parts.store;
        let asking = match key.filter(|id| self.caller.kind != CallerKind::Key || *id != self.caller.id.0) {
            None => self.caller.clone(),
            Some(id) => {
                self.caller.require(Rights::KEYS_WRITE)?;
                let may_all = self.caller.rights.contains(Rights::ORGS_ADMIN);
                let found = store.api_key_of_number_of_every_org(id).await?;
                let found = found.filter(|key| may_all || key.org == self.caller.org);
                Caller::of(&found.ok_or(Error::not_found("key"))?)
            }
        };
        let tags = match question.device {
            Some(device) => {
                let found = store.device_tags(&asking, device).await?.ok_or(Error::not_found("device"))?;
                self.caller.require_some(Rights::DEVICES_READ)?;
                self.caller.demand(Rights::DEVICES_READ, &found.tags, Matter::Device, "device")?;
                found.tags
            }
            None => Vec::new(),
        };
        let each = |name: &'static str| {
            let right = Rights::parse([name]).ok()?;
            Some((name, because(&asking, right, &question, &tags)))
        };
        let rights = question.rights.names().filter_map(each).collect();
        Ok(Explanation {
            is_expired: asking.bounds.is_over_at(self.engine.now()),
            caller: asking,
            tags,
            rights,
        })
    }
}

fn because(asking: &Caller, right: Rights, question: &Question<'_>, tags: &[Tag]) -> Because {
    if asking.rights.contains(right) {
        return Because::Right;
    }
    if !asking.grants.rights().contains(right) {
        return Because::NoRight;
    }
    if !question.is_grantable {
        return Because::NotWhole;
    }
    if question.device.is_none() {
        return Because::SomeGrants;
    }
    // What is asked about a device itself has no method and no kind.
    let of_device = [Matter::Device];
    let matters = match right {
        Rights::DEVICES_READ | Rights::DEVICES_WRITE => &of_device[..],
        _ => &question.matters,
    };
    let given = matters.iter().find_map(|matter| asking.grants.giving(right, tags, *matter));
    given.map_or(Because::NoGrant, |grant| Because::Grant(grant.clone()))
}
