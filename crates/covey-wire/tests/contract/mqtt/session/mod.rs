//! A device's session: what it answers, what it keeps, and what it forgets; each statement of the standard
//! beside the test that holds it.

mod beginning;
mod device;
mod ending;
mod incoming;
mod kept;
mod model;

mod outgoing;
mod rubbish;
mod sizes;
mod subscribing;
