//! Webhooks: tells the endpoints of applications of records, over HTTP.
//!
//! Each endpoint is told by one server at a time, which holds it by a claim
//! ([`run`]). What is sent in which order is decided by
//! [`covey_core::webhook::queue`]; here are the messages, their signatures
//! (Standard Webhooks), and an HTTP client that connects to nothing but what
//! the operator allows ([`HttpSender`]).

mod client;
mod error;
mod follow;
mod guarded;
mod message;
mod resolver;
mod runner;
mod secret;
mod sender;
mod share;
mod supervisor;
mod target;

pub use error::WebhookError;
pub use guarded::{Answered, GuardedClient, Method};
pub use sender::{HttpSender, Options};
pub use supervisor::run;
