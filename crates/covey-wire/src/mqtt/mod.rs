//! MQTT 3.1.1 and 5 as bytes: where a packet ends ([`frame()`]), what it says ([`decode`]), and the other way
//! round ([`Packet::encode`]), for servers and for clients.
//!
//! No I/O, no clock, and outside [`session`] no state. What is read borrows from the frame: strings, payloads and properties are
//! slices of it, and nothing is allocated. Every rule of the standard that can be seen in a packet alone is
//! enforced; a [`Violation`] names the reason code to close with and the rule.
//!
//! The protocol name `MQIsdp` with level 3 (MQTT 3.1) is taken as 3.1.1: what follows the name is the same
//! in what devices use of it.
//!
//! ```
//! use covey_wire::mqtt::{Framing, Packet, ProtocolVersion, Sender, decode, frame};
//!
//! let stream = [0xC0, 0x00, 0x30];
//! let Ok(Framing::Frame(first)) = frame(&stream, 65_536) else { panic!("a whole PINGREQ stands there") };
//! assert_eq!(decode(first, ProtocolVersion::V5, Sender::Client), Ok(Packet::PingReq));
//! assert_eq!(frame(&stream[first.size()..], 65_536), Ok(Framing::Need(2)));
//! ```

mod frame;
mod packet;
mod properties;
mod property;
mod reader;
mod reason_code;
pub mod session;
mod topic;
mod violation;
mod writer;

pub use frame::{Frame, Framing, PacketType, frame};
pub use packet::{
    Ack, Auth, ConnAck, Connect, Delivery, Disconnect, Packet, PacketId, ProtocolVersion, Publish, Qos,
    ReasonCodes, RetainHandling, Sender, SubAck, Subscribe, SubscribeFilters, SubscribeList,
    SubscriptionOptions, UnsubAck, Unsubscribe, UnsubscribeFilters, UnsubscribeList, Will, decode,
    version_to_refuse_in,
};
pub use properties::{Place, Properties, PropertyList};
pub use property::Property;
pub use reason_code::ReasonCode;
pub use topic::{check_topic_filter, check_topic_name, filter_matches, shared_subscription};
pub use violation::Violation;
pub use writer::{REMAINING_LENGTH_MAX, Sink};
