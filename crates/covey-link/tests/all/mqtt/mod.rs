//! The MQTT link at Mosquitto, run with the files in `deploy/mosquitto`: the rules of the broker, and the
//! link over it. Each test has a Mosquitto of its own.

mod broker;
mod link;
mod outage;
mod rules;

use broker::Broker;

event_battery!(Broker::start());
