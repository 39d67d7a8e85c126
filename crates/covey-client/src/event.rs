//! Events: what devices told, newest first.

use reqwest::Method;

use crate::client::{Client, Request};
use crate::error::Result;

const EVENTS: [&str; 3] = ["api", "v1", "device-events"];

/// An event of a device.
pub type Event = covey_api::DeviceEvent<'static>;
/// Some events, newest first.
pub type Events = covey_api::DeviceEventPage<'static>;

/// Which events are wanted; all that devices sent, if nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Those of the device with this number.
    pub device_id: Option<i64>,
    /// Those of these types; all that devices sent if there is none.
    pub include: Vec<i64>,
    /// Those that are not of these types.
    pub exclude: Vec<i64>,
    /// Those received at or after this instant: Unix seconds, or RFC 3339.
    pub received_after: Option<String>,
    /// Those received before this instant.
    pub received_before: Option<String>,
}

impl EventFilter {
    fn add_to<'a>(&self, request: Request<'a>) -> Request<'a> {
        let request = request
            .query_if("device_id", self.device_id)
            .query_if("received_after", self.received_after.as_deref())
            .query_if("received_before", self.received_before.as_deref());
        let request =
            self.include.iter().fold(request, |request, code| request.query("events_include", code));
        self.exclude.iter().fold(request, |request, code| request.query("events_exclude", code))
    }
}

impl Client {
    /// Events, newest first, from a cursor on: the newest without one.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn event_list(&self, filter: &EventFilter, cursor: Option<&str>, size: u32) -> Result<Events> {
        let request = self.request(Method::GET, &EVENTS).query("cursor", cursor.unwrap_or("newest"));
        filter.add_to(request.query("size", size)).send().await?.json()
    }
}
