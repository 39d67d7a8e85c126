//! The AMQP link against a real RabbitMQ 4. The tests need one and take it from
//! the environment, as `cargo xtask test` sets it:
//!
//! - `COVEY_TEST_AMQP`: `amqp://user:password@host:port/vhost`;
//! - `COVEY_TEST_RABBITMQ_MANAGEMENT`: `http://user:password@host:port`;
//! - `COVEY_TEST_MQTTS_PORT`: where devices connect on the loopback address;
//! - `COVEY_TEST_PKI`: the folder of the CA that the broker trusts.
//!
//! They share the queues of one virtual host, and so run one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod accounts;
mod broker;
mod dead;
#[path = "../bench/device.rs"]
mod device;
#[macro_use]
#[path = "../bench/events.rs"]
mod events;
mod link;
mod measure;
#[path = "../bench/no_certificates.rs"]
mod no_certificates;
#[path = "../bench/site.rs"]
mod site;

use crate::broker::Broker;

event_battery!(Broker::take().await, #[ignore = "needs RabbitMQ 4: set COVEY_TEST_AMQP and the others that this file names"]);
