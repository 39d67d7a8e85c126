//! Webhooks: endpoints, what they were sent, and what waits for them.

mod letters;
mod reads;
mod steps;
