//! Accounts of devices in the broker.

use std::time::Duration;

use covey_link::amqp::{self, DifferenceKind};
use reqwest::Method;
use serde_json::json;

use super::broker::Broker;
use crate::broker::AnyBroker;
use crate::device::{Device, Manner, PATIENCE, tls};
use crate::site::{Site, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_retired_is_cut_off() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let site = Site::start(&broker, data.path(), "a").await;
    let sn = broker.sn("retired");
    let registered = site.register(&sn).await;
    let files = broker.device(&sn);
    let mut device = Device::connect(broker.port, &sn, &files).await;
    site.engine.for_caller(&site.caller).device_retire(registered.identity.device_id).await.unwrap();
    tokio::time::timeout(PATIENCE, device.ends.recv()).await.unwrap().unwrap();
    drop(device);
    assert_eq!(broker.user(&sn).await, None);
    let transport = tls(&files.ca, Some(&files));
    assert!(Device::connect_with(broker.port, &sn, transport, Manner::default()).await.is_err());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_registered_again_at_once_keeps_its_account() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let first = Site::start(&broker, data.path(), "a").await;
    let second = Site::start(&broker, data.path(), "b").await;
    let sn = broker.sn("again");
    let mut registered = first.register(&sn).await;
    for round in 0..20 {
        let (here, there) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        here.engine.for_caller(&here.caller).device_retire(registered.identity.device_id).await.unwrap();
        registered = there.register(&sn).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let user = broker.user(&sn).await.unwrap();
    assert_eq!(user["tags"], json!([format!("covey-{}", broker.vhost())]));
    Device::of(&broker, &sn).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_finds_and_mends_what_differs() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let site = Site::start(&broker, data.path(), "a").await;
    let (missing, wide, extra, theirs) =
        (broker.sn("1missing"), broker.sn("2wide"), broker.sn("3extra"), broker.sn("4theirs"));
    for sn in [&missing, &wide] {
        site.register(sn).await;
    }
    let vhost = broker.vhost();
    broker.api(Method::DELETE, &format!("users/{missing}"), None).await.unwrap();
    let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
    broker.api(Method::PUT, &format!("permissions/{vhost}/{wide}"), Some(everything)).await.unwrap();
    for (name, tag) in [(&extra, format!("covey-{vhost}")), (&theirs, "monitoring".to_owned())] {
        let user = json!({"password_hash": "", "tags": tag});
        broker.api(Method::PUT, &format!("users/{name}"), Some(user)).await.unwrap();
    }
    let options = broker.options("audit");
    let found = amqp::audit(&options, &*site.engine, false).await.unwrap();
    assert_eq!(found.devices, 2);
    let names = [&missing, &wide, &extra, &theirs];
    let ours = found.differences.into_iter().filter(|one| names.contains(&&one.account));
    let found: Vec<_> = ours.map(|one| (one.account, one.kind)).collect();
    let expected = [
        (missing.clone(), DifferenceKind::Missing),
        (wide.clone(), DifferenceKind::Permission),
        (extra.clone(), DifferenceKind::Extra),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(expected.iter().all(|one| found.contains(one)), "{found:?}");
    assert!(amqp::audit(&options, &*site.engine, true).await.unwrap().is_repaired);
    assert_eq!(amqp::audit(&options, &*site.engine, false).await.unwrap().differences, []);
    assert_eq!(broker.user(&extra).await, None);
    assert!(broker.user(&theirs).await.is_some());
    broker.api(Method::DELETE, &format!("users/{theirs}"), None).await.unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_puts_accounts_in_step() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let sn = broker.sn("step");
    let site = Site::with(&broker, data.path(), [&*sn]).await;
    site.stop().await;
    broker.api(Method::DELETE, &format!("users/{sn}"), None).await.unwrap();
    let site = Site::start(&broker, data.path(), "a").await;
    until("the account is there", || async { broker.user(&sn).await.is_some() }).await;
    Device::of(&broker, &sn).await;
    site.stop().await;
}
