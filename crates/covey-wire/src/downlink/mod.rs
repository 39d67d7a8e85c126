//! What devices are sent (`srv/<SN>/…`): the server makes a [`DownlinkMessage`], the device
//! [decodes](decode) it.
//!
//! An MQTT 3.1.1 client, whose protocol has no properties, gets them as members of one JSON
//! object with the body as `payload` ([`DownlinkMessage::enveloped_body`], docs/mqtt-3.1.1.md).

mod decode;
mod encode;

pub use decode::{
    Announcement, Commit, Decoded, EventAnswer, Parameters, Properties, Undecodable, decode, parameters,
};
pub use encode::{DownlinkMessage, EventStatus, Qos, ResponseForm, Task};
