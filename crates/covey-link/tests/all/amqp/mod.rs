//! The AMQP link at RabbitMQ 4: a virtual host for each test.

mod accounts;
mod broker;
mod dead;
mod link;

use broker::Broker;

event_battery!(Broker::start());
