//! Webhooks: endpoints, what they were sent, and what waits for them.

mod deliveries;
mod reads;
mod steps;
