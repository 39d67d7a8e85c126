//! How an event looks to an application.

use covey_core::event::DeviceEvent;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::wire::{Time, verbatim};

/// An event of a device.
#[derive(Serialize, ToSchema)]
#[schema(as = DeviceEvent)]
pub(crate) struct EventView<'a> {
    /// Its number. An event that was stored later has a larger one.
    id: i64,
    /// The device's number.
    #[schema(minimum = 1)]
    device_id: i64,
    /// The device's serial number.
    sn: &'a str,
    /// Its type: 0 if the device gave none; -1 and -2 for the device's coming
    /// and going, which the server notes.
    event_type_code: i64,
    /// When it happened, by the device; when it was received, if the device did not say.
    timestamp: Time,
    /// When it was received.
    received_at: Time,
    /// Its number on the device; 0 if the device does not count.
    #[schema(minimum = 0, maximum = 4_294_967_295_i64)]
    dev_event_id: u32,
    /// What it belongs to.
    #[schema(required = true)]
    correlation_id: Option<Uuid>,
    /// Its body, exactly as the device sent it.
    #[schema(value_type = Object)]
    payload: &'a RawValue,
}

impl<'a> EventView<'a> {
    /// How an event looks.
    pub(crate) fn of(event: &'a DeviceEvent) -> Self {
        Self {
            id: event.id.0,
            device_id: event.device_id.0,
            sn: event.sn.as_str(),
            event_type_code: event.type_code,
            timestamp: Time(event.key.dev_timestamp),
            received_at: Time(event.received_at),
            dev_event_id: event.key.dev_event_id,
            correlation_id: event.correlation,
            payload: verbatim(&event.payload),
        }
    }
}
