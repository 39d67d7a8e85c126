//! The link of the embedded broker.

mod broker;
mod calls;
mod in_flight;
mod take_over;

use broker::Broker;

event_battery!(Broker::start());
