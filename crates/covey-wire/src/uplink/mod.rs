//! What devices send (`dev/<SN>/…`): [`request`], [`result`] and [`event`] make the properties on
//! the device's side, [`TaskMessage`] and [`read_event`] read the message on the server's.

mod encode;
mod event;
mod event_body;
mod event_time;
pub(crate) mod malformed;
mod received;
mod task_body;
mod task_message;

pub use encode::{UplinkProperties, event, request, result};
pub use event::{EVENT_TYPE_CODE_MAX, Event, EventHead, Unread, read_event};
pub use event_body::{RESOURCES_MAX, Reported};
pub use malformed::Malformed;
pub use received::{Carrier, Properties, Received};
pub use task_message::{ResultBody, TaskMessage, TaskResult};
