//! How many events the embedded broker takes.

use std::time::{Duration, Instant};

use covey_core::budget::Budgets;
use rumqttc::mqttbytes::QoS;

use crate::device::{Device, outcome};
use crate::embedded_broker::Broker;
use crate::site::Site;

/// A body like those that devices in the field send.
const BODY: &str =
    r#"{"101":8,"102":"2026-01-31 12:00:00ZMSK","200":13,"300":[{"301":5,"312":"opened","313":1}]}"#;

pub async fn events_a_second() {
    for (devices, events) in [(1, 20_000), (8, 10_000), (64, 2_000)] {
        let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
        let site = Site::start_with_budgets(&broker, data.path(), Budgets::unbounded()).await;
        let mut connected = Vec::new();
        for number in 0..devices {
            let sn = format!("dev{number}");
            site.register(&sn).await;
            connected.push(Device::of(&broker, &sn).await);
        }
        let began = Instant::now();
        let mut running = Vec::new();
        for device in connected {
            running.push(tokio::spawn(async move {
                let mut notices = Vec::new();
                for number in 1..=events {
                    let number = number.to_string();
                    let fields = [("event_type_code", "13"), ("dev_event_id", number.as_str())];
                    notices.push(device.event_later(&fields, BODY, QoS::AtLeastOnce).await);
                }
                for notice in notices {
                    outcome(notice).await;
                }
            }));
        }
        for one in running {
            one.await.unwrap();
        }
        let seconds = began.elapsed().as_secs_f64();
        let total = devices * events;
        println!(
            "{devices} devices: {:.0} events/s, {:.1} a commit, clients on the same cores",
            f64::from(total) / seconds,
            f64::from(total) / site.commits() as f64,
        );
        site.stop().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
