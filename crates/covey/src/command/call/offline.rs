//! What a caller is told at once whose device is not connected.

use std::time::Duration;

use covey_client::{Device, DeviceFilter, PageRequest, TaskRequest, Whole};

use crate::command::connection::Connection;
use crate::command::moment;
use crate::command::output::printable;

/// Says that the device of a request is offline, since when, and how long the
/// call waits. Nothing if it is online, if that cannot be told (the key may lack
/// the right to read devices), or if the output is for programs.
pub async fn note(request: &TaskRequest, wait: Duration, connection: &Connection) -> Option<String> {
    if connection.output.json {
        return None;
    }
    let filter = DeviceFilter {
        sn: request.task.device_sn.clone(),
        device_id: request.task.device_id.map(|Whole(id)| id),
        ..DeviceFilter::default()
    };
    let page = connection.client.device_list(&filter, PageRequest { page: 1, size: 1 }).await.ok()?;
    told(page.items.first()?, wait, request.task.ttl.map(|Whole(minutes)| minutes))
}

fn told(device: &Device, wait: Duration, ttl_minutes: Option<i64>) -> Option<String> {
    if device.is_online() {
        return None;
    }
    let sn = printable(&device.sn);
    let went = device.connection.as_ref().and_then(|connection| connection.checked_at);
    let state = match went {
        Some(at) => format!("{sn} is offline since {} ({})", moment::of(at), moment::ago(at)),
        None => format!("{sn} is offline and was never connected"),
    };
    let wait = moment::span(i64::try_from(wait.as_secs()).unwrap_or(i64::MAX));
    let life = match ttl_minutes {
        None | Some(0) => String::new(),
        Some(minutes) => format!("; the task lives for {}", moment::span(minutes * 60)),
    };
    Some(format!("{state}; waiting for {wait}{life}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn device(connection: &str) -> Device {
        let text = format!(
            r#"{{"id":1,"device_id":1,"sn":"lamp-1","device_gauges":[],"device_tags":[],
            "created_at":"2026-02-03T04:05:06Z","connection":{connection}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_device_that_is_not_connected_is_told_with_its_time_and_the_wait() {
        let told = |connection: &str, ttl| super::told(&device(connection), Duration::from_secs(30), ttl);
        assert_eq!(
            told(
                r#"{"device_id":1,"client_id":"lamp-1","last_checked_result":true,"checked_at":"2026-02-03T04:05:06Z"}"#,
                Some(1)
            ),
            None
        );
        let went =
            told(r#"{"device_id":1,"client_id":"lamp-1","last_checked_result":false,"checked_at":"2026-02-03T04:05:06Z"}"#, Some(5)).unwrap();
        assert!(went.starts_with("lamp-1 is offline since 2026-02-03 04:05:06 UTC ("), "{went}");
        assert!(went.ends_with("); waiting for 30 s; the task lives for 5 min"), "{went}");
        let never = told("null", Some(0)).unwrap();
        assert_eq!(never, "lamp-1 is offline and was never connected; waiting for 30 s");
    }
}
