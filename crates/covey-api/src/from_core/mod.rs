//! The wire forms of what the domain has, for the server: each borrows what it shows.

mod access;
mod audit;
mod certificate;
mod claim;
mod device;
mod event;
mod grant;
mod health;
mod limits;
mod node;
mod org;
mod person;
mod record;
mod task;
mod token;
mod twin;
mod unit;
mod usage;
mod webhook;

use std::borrow::Cow;

use covey_core::id::UnixMs;
use serde_json::value::RawValue;

use crate::Time;

impl From<UnixMs> for Time {
    fn from(at: UnixMs) -> Self {
        Self(at.0)
    }
}

/// JSON that is handed on exactly as it came. It was checked when it came.
fn verbatim(text: &str) -> Cow<'_, RawValue> {
    Cow::Borrowed(serde_json::from_str(text).unwrap_or(RawValue::NULL))
}
