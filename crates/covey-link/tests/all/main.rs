//! The links, each at a broker that is really there: the embedded one, RabbitMQ 4 and Mosquitto 2, which
//! the test bed starts (`docs/adr/0012-one-test-bed.md`).

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod broker;
mod device;
#[macro_use]
mod events;
mod no_certificates;
mod site;

mod amqp;
mod embedded;
mod mqtt;
