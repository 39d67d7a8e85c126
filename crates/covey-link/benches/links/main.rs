//! How fast the links are: `cargo bench -p covey-link --bench links`, or the measurements of some links:
//! `cargo bench -p covey-link --bench links -- amqp mqtt`. The names are `amqp`, `mqtt` and `embedded`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod amqp;
#[allow(dead_code)]
#[path = "../../tests/all/broker.rs"]
mod broker;
mod calls;
#[allow(dead_code)]
#[path = "../../tests/all/device.rs"]
mod device;
mod embedded;
#[path = "../../tests/all/embedded/broker.rs"]
mod embedded_broker;
#[allow(dead_code)]
#[path = "../../tests/all/mqtt/broker.rs"]
mod mosquitto;
mod mqtt;
#[path = "../../tests/all/no_certificates.rs"]
mod no_certificates;
#[allow(dead_code)]
#[path = "../../tests/all/amqp/broker.rs"]
mod rabbitmq;
#[allow(dead_code)]
#[path = "../../tests/all/site.rs"]
mod site;

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this as well, and says no such word: that it starts is enough then.
    if !words.iter().any(|word| word == "--bench") {
        return;
    }
    let is_any_named = words.iter().any(|word| ["amqp", "mqtt", "embedded"].contains(&word.as_str()));
    let is_wanted = |name: &str| !is_any_named || words.iter().any(|word| word == name);
    if is_wanted("amqp") {
        calls::latency_and_throughput(rabbitmq::Broker::start()).await;
        calls::revoking(rabbitmq::Broker::start()).await;
        amqp::ten_thousand_devices().await;
    }
    if is_wanted("mqtt") {
        calls::latency_and_throughput(mosquitto::Broker::start()).await;
        calls::revoking(mosquitto::Broker::start()).await;
        mqtt::a_thousand_devices().await;
    }
    if is_wanted("embedded") {
        embedded::events_a_second().await;
    }
}
