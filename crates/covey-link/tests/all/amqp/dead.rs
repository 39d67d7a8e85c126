//! Messages that nobody can do anything with.

use covey_core::task::TaskStatus;
use covey_link::amqp::{DeadLetters, Options, Redriven};

use super::broker::Broker;
use crate::broker::AnyBroker;
use crate::device::Device;
use crate::site::{Site, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_is_put_aside_and_can_be_driven_again() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let sn = broker.sn("dead");
    let site = Site::with(&broker, data.path(), [&*sn]).await;
    let mut device = Device::of(&broker, &sn).await;
    device.listen().await;
    let id = site.create(&sn).await;
    device.next("tsk").await;
    device.say("req", &id.to_string(), None).await;
    device.next("rsp").await;
    let options = Options::new(&broker.amqp, None, None, "operator").unwrap();
    let letters = DeadLetters::open(&options).await.unwrap();
    letters.purge().await.unwrap();
    // A result without a status code, three times; then a good one.
    for _ in 0..3 {
        device.say("res", &id.to_string(), None).await;
    }
    until("they are put aside", || async { letters.count().await.unwrap() == 3 }).await;
    for _ in 0..3 {
        let listed = letters.list(100).await.unwrap();
        assert_eq!(listed.len(), 3);
        let first = listed.first().unwrap();
        assert_eq!(first.routing_key, format!("dev.{sn}.res"));
        assert!(first.reason.contains("status_code"), "{}", first.reason);
        assert_eq!(first.correlation, Some(id.to_string()));
    }
    assert_eq!(site.task(id).await.task.status, TaskStatus::Lock);
    // Driven again they are refused again, and each is there once.
    let wanted = Redriven { sent: 1, unroutable: 0 };
    assert_eq!(letters.redrive(|letter| letter.place == 2).await.unwrap(), wanted);
    until("it is back", || async { letters.count().await.unwrap() == 3 }).await;
    assert_eq!(letters.purge().await.unwrap(), 3);
    letters.close().await;
    site.stop().await;
}
