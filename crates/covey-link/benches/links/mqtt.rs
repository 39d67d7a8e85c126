//! The accounts of many devices in Mosquitto.

use std::time::{Duration, Instant};

use covey_core::task::TaskStatus;

use crate::broker::AnyBroker;
use crate::device::Device;
use crate::mosquitto::Broker;
use crate::site::Site;

pub async fn a_thousand_devices() {
    let count = 1_000;
    let broker = Broker::start();
    let data = tempfile::tempdir().unwrap();
    let site = std::sync::Arc::new(Site::start(&broker, data.path(), "a").await);
    let began = Instant::now();
    let mut running = Vec::new();
    for worker in 0..64 {
        let site = std::sync::Arc::clone(&site);
        running.push(tokio::spawn(async move {
            let mut number = worker;
            while number < count {
                site.register(&format!("dev{number:05}")).await;
                number += 64;
            }
        }));
    }
    for one in running {
        one.await.unwrap();
    }
    println!("{count} devices were registered with their accounts in {:.1?}", began.elapsed());
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
    let mut device = Device::connect(empty.port, "one-more", &empty.device("one-more")).await;
    device.listen().await;
    let id = second.create("one-more").await;
    device.next("tsk").await;
    assert_eq!(second.task(id).await.task.status, TaskStatus::Ready);
}
