//! Why somebody may do something, or may not: decided by what decides it when it is done.

use crate::access::{ApiKey, Caller, Grant, Matter, Rights};
use crate::device::{Tag, TagsOf};
use crate::engine::ForCaller;
use crate::error::{Error, Result};

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// The rights that it takes, all of them.
    pub rights: Rights,
    /// The device that it is about, if it is about one.
    pub device: Option<TagsOf>,
    /// What it is about.
    pub matter: Matter<'a>,
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

/// Why a key may do something, or may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The key.
    pub key: ApiKey,
    /// Whether it has expired.
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
    /// Whether the key may do it.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        !self.is_expired && self.rights.iter().all(|(_, because)| because.is_yes())
    }
}

impl ForCaller<'_> {
    /// Why a key of the caller's organisation may do something, or may not; with the right orgs:admin one of any.
    ///
    /// # Errors
    /// A missing right for the key of somebody else, [`Error::NotFound`] for the key or the device, or the store's.
    pub async fn access_explain(self, key: Option<i64>, question: Question<'_>) -> Result<Explanation> {
        let own = self.caller.id.0;
        let id = key.unwrap_or(own);
        if id != own {
            self.caller.require(Rights::KEYS_WRITE)?;
        }
        let may_all = self.caller.rights.contains(Rights::ORGS_ADMIN);
        let keys = self.engine.parts.store.api_key_list_of_every_org().await?;
        let of_ours = |key: &ApiKey| key.id == id && (may_all || key.org == self.caller.org);
        let key = keys.into_iter().find(of_ours).ok_or(Error::not_found("key"))?;
        let asking = Caller::of(&key);
        let tags = match question.device {
            Some(device) => self.engine.parts.store.device_tags(&asking, device).await?,
            None => Vec::new(),
        };
        let because = |right: Rights| match question {
            _ if asking.rights.contains(right) => Because::Right,
            _ if !asking.grants.rights().contains(right) => Because::NoRight,
            Question { is_grantable: false, .. } => Because::NotWhole,
            Question { device: None, .. } => Because::SomeGrants,
            Question { matter, .. } => asking
                .grants
                .giving(right, &tags, matter)
                .map_or(Because::NoGrant, |grant| Because::Grant(grant.clone())),
        };
        let each = |name: &'static str| Rights::parse([name]).ok().map(|right| (name, because(right)));
        let rights = question.rights.names().filter_map(each).collect();
        Ok(Explanation { is_expired: key.bounds.is_over_at(self.engine.now()), key, tags, rights })
    }
}
