//! The accounts of many devices in Mosquitto.

use std::time::{Duration, Instant};

use covey_core::task::TaskStatus;

use crate::calls::register;
use crate::device::Device;
use crate::mosquitto::Broker;
use crate::site::Site;

pub async fn a_thousand_devices() {
    let count = 1_000;
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = std::sync::Arc::new(Site::start(&broker, data.path(), "a").await);
    register(&site, count, |number| format!("dev{number:05}")).await;
    let began = Instant::now();
    site.register("one-more").await;
    println!("one more in {:.1?}", began.elapsed());
    // A broker that knows none of them, and the same registry.
    let empty = Broker::start();
    let began = Instant::now();
    let second = Site::start(&empty, data.path(), "a").await;
    let made = || empty.accounts().matches("\"covey.device.").count() / 2;
    while made() <= count {
        assert!(began.elapsed() < Duration::from_secs(600), "only {} accounts", made());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("an audit made {count} accounts at an empty broker in {:.1?}", began.elapsed());
    let mut device = Device::of(&empty, "one-more").await;
    device.listen().await;
    let id = second.create("one-more").await;
    device.next("tsk").await;
    assert_eq!(second.task(id).await.task.status, TaskStatus::Ready);
}
