//! The accounts of many devices in RabbitMQ.

use std::time::Instant;

use covey_link::amqp::audit;

use crate::broker::AnyBroker;
use crate::calls::register;
use crate::rabbitmq::Broker;
use crate::site::Site;

pub async fn ten_thousand_devices() {
    let count = 10_000;
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let site = std::sync::Arc::new(Site::start(&broker, data.path(), "a").await);
    register(&site, count, |number| format!("bulk-{number:05}")).await;
    let began = Instant::now();
    let sn = broker.sn("more");
    site.register(&sn).await;
    println!("one more in {:.1?}", began.elapsed());
    let options = broker.options("audit");
    let began = Instant::now();
    assert_eq!(audit(&options, &*site.engine, false).await.unwrap().differences, []);
    println!("an audit that finds nothing in {:.1?}", began.elapsed());
    let names: Vec<_> = (0..count).map(|number| format!("bulk-{number:05}")).collect();
    let body = serde_json::json!({ "users": names });
    let delete_all = || broker.api(reqwest::Method::POST, "users/bulk-delete", Some(body.clone()));
    delete_all().await.unwrap();
    let began = Instant::now();
    let audited = audit(&options, &*site.engine, true).await.unwrap();
    assert_eq!(audited.differences.len(), count);
    println!("an audit made {count} accounts in {:.1?}", began.elapsed());
    assert_eq!(audit(&options, &*site.engine, false).await.unwrap().differences, []);
    delete_all().await.unwrap();
}
