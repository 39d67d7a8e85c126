//! Services for tests: PostgreSQL, RabbitMQ 4, Mosquitto, nginx and a PKI on free ports of
//! loopback, started when a test first asks for them and ended when the last user is gone,
//! killed or not. Tests in Rust use [`Testbed`]; people and other languages use the program
//! `covey-testbed` (`cargo xtask services`), which does the same.

mod deployment;
mod mosquitto;
mod nginx;
mod package;
mod pki;
mod port;
mod postgresql;
mod process;
mod rabbitmq;
mod report;
mod secret;
mod service;
mod shape;
mod state;
mod testbed;
mod user;

pub mod command;

use std::path::{Path, PathBuf};

pub use rustix::process::Signal;

pub use self::service::Service;
pub use self::shape::{Link, Shape, Store};
pub use self::testbed::{Deployment, OwnTestbed, Testbed};

/// The root of the work tree, which holds the files of `deploy/` and the folder `target/`.
fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// A word for a shell, whatever it holds.
fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.:_-+".contains(&byte));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
