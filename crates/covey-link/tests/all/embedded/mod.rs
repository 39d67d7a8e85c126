//! The link of the embedded broker.

mod broker;
mod calls;
mod in_flight;

use broker::Broker;

event_battery!(Broker::start());
