//! What the messages of the server mean to a device.

use std::borrow::Cow;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::json::is_object;
use crate::{Downlink, parse_correlation, property};

/// The MQTT 5 properties of a message of the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Properties<'a> {
    /// The native Correlation Data.
    pub correlation_data: Option<&'a [u8]>,
    /// For how many seconds the message is still worth reading (Message Expiry Interval).
    pub expiry_s: Option<u32>,
    /// The user properties. Of those with one name the first counts.
    pub user: &'a [(String, String)],
}

impl<'a> Properties<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.user.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn integer<T: FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    /// Native Correlation Data goes before the user property. What cannot be read counts as not
    /// given, and zero as none.
    fn task_id(&self) -> Option<Uuid> {
        let in_property = || self.get(property::CORRELATION_DATA).map(str::as_bytes);
        self.correlation_data
            .and_then(parse_correlation)
            .or_else(|| in_property().and_then(parse_correlation))
            .filter(|id| !id.is_nil())
    }
}

/// What the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// `tsk`: a task is waiting.
    Announced(Announcement),
    /// `rsp` with a task.
    Parameters(Parameters<'a>),
    /// `rsp` without one.
    NothingToDo,
    /// `cmt`: a result is stored.
    Committed(Commit),
    /// `eva`: an event is stored, or is not.
    EventAnswer(EventAnswer),
}

/// What a `tsk` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The task.
    pub task_id: Uuid,
    /// 0 to 9, higher first, if it can be read.
    pub priority: Option<u8>,
}

/// What an `rsp` with a task says. Its parameters are in the body ([`parameters`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters<'a> {
    /// The task.
    pub task_id: Uuid,
    /// What is to be done, as a number.
    pub method_code: u16,
    /// What is to be done, as a name.
    pub method: Option<&'a str>,
    /// When the task expires, in Unix seconds of the server's clock.
    pub expires_at_s: Option<u64>,
    /// How long it still lives, in seconds, whatever this device's clock says.
    pub expiry_s: Option<u32>,
}

/// What a `cmt` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The task.
    pub task_id: Uuid,
    /// The device's own number of the result.
    pub ext_id: Option<i64>,
    /// The server's number of the result.
    pub result_id: Option<i64>,
}

/// What an `eva` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventAnswer {
    /// The event's number on the device.
    pub dev_event_id: u32,
    /// Its type.
    pub type_code: Option<u32>,
    /// Whether it is stored; anything but "success" means that it is not.
    pub is_stored: bool,
}

/// Why a message of the server cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// A `tsk` that names no task.
    #[error("an announcement without a task id")]
    AnnouncementTask,
    /// An `rsp` with a task and without its method.
    #[error("a task without an integer method_code")]
    MethodCode,
    /// A `cmt` that names no task.
    #[error("a commit without a task id")]
    CommitTask,
    /// An `eva` that names no event.
    #[error("an eva without an integer dev_event_id")]
    DevEventId,
}

/// Reads a message of the server to an MQTT 5 client.
///
/// # Errors
/// [`Undecodable`] for a message that does not say what it is about.
pub fn decode<'a>(
    downlink: Downlink,
    properties: Properties<'a>,
    body: &[u8],
) -> Result<Decoded<'a>, Undecodable> {
    let task_id = properties.task_id();
    Ok(match downlink {
        Downlink::Tsk => Decoded::Announced(Announcement {
            task_id: task_id.ok_or(Undecodable::AnnouncementTask)?,
            priority: priority(body),
        }),
        // A method code of 0 does not mean "nothing to do": 0 is a method code like any other.
        // The zero correlation does.
        Downlink::Rsp => match task_id {
            None => Decoded::NothingToDo,
            Some(task_id) => Decoded::Parameters(Parameters {
                task_id,
                method_code: properties.integer(property::METHOD_CODE).ok_or(Undecodable::MethodCode)?,
                method: properties.get(property::METHOD),
                expires_at_s: properties.integer(property::EXPIRES_AT),
                expiry_s: properties.expiry_s,
            }),
        },
        Downlink::Cmt => Decoded::Committed(Commit {
            task_id: task_id.ok_or(Undecodable::CommitTask)?,
            ext_id: properties.integer(property::EXT_ID),
            result_id: properties.integer(property::RESULT_ID),
        }),
        Downlink::Eva => Decoded::EventAnswer(EventAnswer {
            dev_event_id: properties.integer(property::DEV_EVENT_ID).ok_or(Undecodable::DevEventId)?,
            type_code: properties.integer(property::EVENT_TYPE_CODE),
            is_stored: is_success(body),
        }),
    })
}

/// The task's parameters in the body of an `rsp`: the `payload` of an envelope about this task, which a
/// deployment may be set to send, else the body, verbatim. The parameters of a task cannot be taken
/// for an envelope: they were there before its id.
#[must_use]
pub fn parameters(task_id: Uuid, body: &[u8]) -> &[u8] {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        id: Uuid,
        #[serde(rename = "header")]
        _header: IgnoredAny,
        #[serde(borrow)]
        payload: &'a RawValue,
    }
    if !is_object(body) {
        return body;
    }
    match serde_json::from_slice::<Envelope<'_>>(body) {
        Ok(envelope) if envelope.id == task_id => envelope.payload.get().as_bytes(),
        Ok(_) | Err(_) => body,
    }
}

fn priority(body: &[u8]) -> Option<u8> {
    #[derive(Deserialize)]
    struct Body {
        header: Header,
    }
    #[derive(Deserialize)]
    struct Header {
        priority: Option<u8>,
    }
    serde_json::from_slice::<Body>(body).ok()?.header.priority
}

fn is_success(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        status: Cow<'a, str>,
    }
    serde_json::from_slice::<Body<'_>>(body).is_ok_and(|body| body.status == "success")
}
