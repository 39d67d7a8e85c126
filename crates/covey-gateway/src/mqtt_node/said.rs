//! What a message of a node says, in plain MQTT and in MQTT-SN alike.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::topic::{Topic, UID_BYTES_MAX};
use crate::value::text_of;

/// How many resources a node may name at once; it says their values itself.
/// Limit for each node: 0x99.
const RESOURCES_NAMED_MAX: usize = 256;

/// What a message of a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// The node is there.
    Check { uid: Cow<'a, str> },
    /// Which resources it has: it is to be asked for their values.
    Resources { uid: &'a str },
    /// What a resource is, as JSON text.
    Value { uid: &'a str, resource: &'a str, value: Arc<str> },
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Topic,
    Body,
    /// Another connection speaks for the node.
    Foreign,
    NoRoom,
}

impl Refused {
    /// Why, for people.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Topic => "not a topic of a node",
            Self::Body => "not what belongs into this topic",
            Self::Foreign => "another connection speaks for this node",
            Self::NoRoom => "there are too many nodes",
        }
    }
}

#[derive(Deserialize)]
struct Check<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
}

#[derive(Deserialize)]
struct Value<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
}

impl<'a> Said<'a> {
    /// Reads a message.
    pub(crate) fn read(topic: &'a str, payload: &'a [u8]) -> Result<Self, Refused> {
        match Topic::parse(topic).ok_or(Refused::Topic)? {
            Topic::Check => {
                let Check { id } = serde_json::from_slice(payload).map_err(|_| Refused::Body)?;
                let uid = text_of(id.get());
                let is_uid = (1..=UID_BYTES_MAX).contains(&uid.len()) && !uid.contains(['/', '+', '#']);
                if is_uid { Ok(Self::Check { uid }) } else { Err(Refused::Body) }
            }
            Topic::Resources { uid } => {
                let named: Vec<Cow<'_, str>> = serde_json::from_slice(payload).map_err(|_| Refused::Body)?;
                if named.len() > RESOURCES_NAMED_MAX {
                    return Err(Refused::Body);
                }
                Ok(Self::Resources { uid })
            }
            Topic::Value { uid, resource } => {
                let Value { value } = serde_json::from_slice(payload).map_err(|_| Refused::Body)?;
                Ok(Self::Value { uid, resource, value: Arc::from(value.get()) })
            }
        }
    }

    /// Which node says it.
    pub(crate) fn uid(&self) -> &str {
        match self {
            Self::Check { uid } => uid,
            Self::Resources { uid } | Self::Value { uid, .. } => uid,
        }
    }
}
