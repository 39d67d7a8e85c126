//! Grants, both ways.

use covey_core::access as core;
use covey_core::device::Tag;
use covey_core::error::{Error, Result};
use covey_core::record::RecordKind;

use crate::{DeviceTag, Grant, GrantMethod};

impl Grant {
    /// How a grant looks.
    #[must_use]
    pub fn of(grant: &core::Grant) -> Self {
        let method = |method: &core::Method| match method {
            core::Method::Code(code) => GrantMethod::Code(*code),
            core::Method::Name(name) => GrantMethod::Name(name.clone()),
        };
        let tag =
            |Tag { tag, value }: &Tag| DeviceTag { tag: tag.clone().into(), value: value.clone().into() };
        Self {
            rights: grant.rights.names().map(str::to_owned).collect(),
            tags: grant.tags.iter().map(tag).collect(),
            methods: grant.methods.iter().map(method).collect(),
            kinds: grant.kinds.iter().map(|kind| kind.name().to_owned()).collect(),
            event_types: grant
                .event_types
                .iter()
                .map(|code| i32::try_from(*code).unwrap_or(i32::MAX))
                .collect(),
        }
    }

    /// Grants as they are asked for.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `grants`.
    pub fn all_to_core(grants: Vec<Self>) -> Result<core::Grants> {
        core::Grants::new(grants.into_iter().map(Self::into_core).collect::<Result<_>>()?)
    }

    fn into_core(self) -> Result<core::Grant> {
        let method = |method| match method {
            GrantMethod::Code(code) => core::Method::Code(code),
            GrantMethod::Name(name) => core::Method::Name(name),
        };
        let kind = |name: &String| {
            RecordKind::from_name(name)
                .ok_or(Error::invalid("grants", "have kinds of task, result, event, presence and twin"))
        };
        Ok(core::Grant {
            rights: core::Rights::parse(self.rights.iter().map(String::as_str))
                .map_err(|_| Error::invalid("grants", "name a right that is not known"))?,
            tags: self
                .tags
                .into_iter()
                .map(|tag| Tag { tag: tag.tag.into_owned(), value: tag.value.into_owned() })
                .collect(),
            methods: self.methods.into_iter().map(method).collect(),
            kinds: self.kinds.iter().map(kind).collect::<Result<_>>()?,
            event_types: self.event_types.into_iter().map(i64::from).collect(),
        })
    }
}
