//! What a device publishes, and what it understands of what it gets, in both versions of MQTT.

use covey_wire::downlink::{self, Decoded, Undecodable};
use covey_wire::mqtt::{Place, Properties, Property, PropertyList, ProtocolVersion, Violation};
use covey_wire::uplink::{self, UplinkProperties};
use covey_wire::{Downlink, Uplink};
use serde::Deserialize;
use uuid::Uuid;

/// The type of all events.
const EVENT_TYPE_CODE: u32 = 7;

/// An event, and what became of it.
#[derive(Clone, Debug)]
pub struct Event {
    /// The device's own number of it, from 1.
    pub number: u32,
    /// The device's time of it, in Unix seconds.
    pub at_s: u64,
    /// The body, as JSON.
    pub body: String,
    /// The resource of which it reports its number as the value, if it reports any.
    pub resource: Option<&'static str>,
    /// The server may have got it.
    pub was_sent: bool,
    /// The server has said that it is not stored; it was sent once more behind later ones.
    pub was_refused: bool,
    /// The server has said that it is stored.
    pub is_proved: bool,
}

impl Event {
    /// One that happens now.
    #[must_use]
    pub fn new(number: u32, at_s: u64) -> Self {
        let resource = (!number.is_multiple_of(3)).then(|| ["r0", "r1"][(number % 2) as usize]);
        let reported = resource.map(|name| format!(r#","reported":{{"{name}":{number}}}"#));
        let reported = reported.unwrap_or_default();
        let body = format!(r#"{{"200":{EVENT_TYPE_CODE},"101":{number},"102":{at_s},"n":0{reported}}}"#);
        Self { number, at_s, body, resource, was_sent: false, was_refused: false, is_proved: false }
    }
}

/// What a device publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// An announcement was received.
    Ack(Uuid),
    /// A named task is wanted, or the next one.
    Request(Option<Uuid>),
    /// The result at this place of the device's list.
    Result(usize),
    /// The event at this place of the device's list.
    Event(usize),
    /// A result for a task that is not the device's.
    ForeignTask(Uuid),
    /// A result on the topic of the device with this number.
    ForeignTopic(u32, Uuid),
}

/// A result as it goes out.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Its task.
    pub task: Uuid,
    /// The device's own number of it.
    pub ext_id: i64,
    /// Its status code.
    pub status_code: u16,
}

impl Said {
    /// The body, as JSON.
    #[must_use]
    pub fn body(&self) -> String {
        format!(r#"{{"n":{}}}"#, self.ext_id)
    }
}

/// Where a message goes, and with what.
pub struct Packed {
    /// The last level of its topic.
    pub uplink: Uplink,
    properties: Option<PropertyList>,
    /// The body.
    pub payload: Vec<u8>,
}

impl Packed {
    /// The properties; none in 3.1.1.
    #[must_use]
    pub fn properties(&self) -> Properties<'_> {
        self.properties.as_ref().map_or(Properties::NONE, PropertyList::properties)
    }

    /// A message about a task.
    ///
    /// # Errors
    /// A property that MQTT cannot carry.
    pub fn about(uplink: Uplink, task: Option<Uuid>, version: ProtocolVersion) -> Result<Self, Violation> {
        let task = task.unwrap_or(Uuid::nil());
        match version {
            ProtocolVersion::V5 => Self::with(uplink, &uplink::request(task), Vec::new()),
            ProtocolVersion::V311 => {
                let payload = format!(r#"{{"correlationData":"{task}"}}"#).into_bytes();
                Ok(Self { uplink, properties: None, payload })
            }
        }
    }

    /// A result.
    ///
    /// # Errors
    /// A property that MQTT cannot carry.
    pub fn result(said: &Said, version: ProtocolVersion) -> Result<Self, Violation> {
        let Said { task, ext_id, status_code } = *said;
        match version {
            ProtocolVersion::V5 => {
                let properties = uplink::result(task, status_code, ext_id);
                Self::with(Uplink::Res, &properties, said.body().into_bytes())
            }
            ProtocolVersion::V311 => {
                let payload = format!(
                    r#"{{"correlationData":"{task}","status_code":{status_code},"ext_id":{ext_id},"payload":{}}}"#,
                    said.body()
                );
                Ok(Self { uplink: Uplink::Res, properties: None, payload: payload.into_bytes() })
            }
        }
    }

    /// An event. Its body says all of it, so that it is the same in both versions.
    ///
    /// # Errors
    /// A property that MQTT cannot carry.
    pub fn event(event: &Event, version: ProtocolVersion) -> Result<Self, Violation> {
        let payload = event.body.clone().into_bytes();
        match version {
            ProtocolVersion::V5 => {
                let properties = uplink::event(EVENT_TYPE_CODE, event.number, event.at_s, None);
                Self::with(Uplink::Evt, &properties, payload)
            }
            ProtocolVersion::V311 => Ok(Self { uplink: Uplink::Evt, properties: None, payload }),
        }
    }

    fn with(uplink: Uplink, of: &UplinkProperties, payload: Vec<u8>) -> Result<Self, Violation> {
        let mut properties = PropertyList::new(Place::PublishFromClient);
        if let Some(correlation) = &of.correlation_data {
            properties.push(Property::CorrelationData(correlation.as_bytes()))?;
        }
        for (name, value) in &of.user {
            properties.push(Property::UserProperty(name, value))?;
        }
        Ok(Self { uplink, properties: Some(properties), payload })
    }
}

/// What the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A task waits.
    Announced(Uuid),
    /// A task with its parameters.
    Task(Uuid),
    /// There is nothing to do.
    NothingToDo,
    /// A result is stored; its number is missing where the device takes small packets only.
    Committed(Uuid, Option<i64>),
    /// About the event with this number: whether it is stored. The number is missing where the device takes small
    /// packets only.
    Event(Option<u32>, bool),
}

impl Heard {
    /// The task that it is about.
    #[must_use]
    pub fn task(&self) -> Option<Uuid> {
        match self {
            Self::Announced(task) | Self::Task(task) | Self::Committed(task, _) => Some(*task),
            Self::NothingToDo | Self::Event(..) => None,
        }
    }

    /// Reads a message; none if it cannot be understood.
    #[must_use]
    pub fn read(
        downlink: Downlink,
        properties: Properties<'_>,
        body: &[u8],
        version: ProtocolVersion,
    ) -> Option<Self> {
        if version == ProtocolVersion::V311 {
            return Self::read_envelope(downlink, body);
        }
        let user: Vec<_> =
            properties.user_properties().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let said = downlink::Properties {
            correlation_data: properties.correlation_data(),
            expiry_s: properties.message_expiry_interval(),
            user: &user,
        };
        let decoded = match downlink::decode(downlink, said, body) {
            Err(Undecodable::DevEventId) if user.is_empty() => return Some(Self::Event(None, false)),
            decoded => decoded.ok()?,
        };
        Some(match decoded {
            Decoded::Announced(announced) => Self::Announced(announced.task_id),
            Decoded::Parameters(parameters) => Self::Task(parameters.task_id),
            Decoded::NothingToDo => Self::NothingToDo,
            Decoded::Committed(commit) => Self::Committed(commit.task_id, commit.ext_id),
            Decoded::EventAnswer(answer) => Self::Event(Some(answer.dev_event_id), answer.is_stored),
        })
    }

    fn read_envelope(downlink: Downlink, body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct AboutEvent {
            dev_event_id: u32,
            payload: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            status: String,
        }
        #[derive(Deserialize)]
        struct AboutTask {
            #[serde(rename = "correlationData")]
            correlation: Uuid,
            ext_id: Option<i64>,
        }
        if downlink == Downlink::Eva {
            let AboutEvent { dev_event_id, payload } = serde_json::from_slice(body).ok()?;
            return Some(Self::Event(Some(dev_event_id), payload.status == "success"));
        }
        let AboutTask { correlation, ext_id } = serde_json::from_slice(body).ok()?;
        Some(match downlink {
            Downlink::Tsk => Self::Announced(correlation),
            Downlink::Rsp if correlation.is_nil() => Self::NothingToDo,
            Downlink::Rsp => Self::Task(correlation),
            Downlink::Cmt => Self::Committed(correlation, ext_id),
            Downlink::Eva => return None,
        })
    }
}
