//! One connection of a device takes the place of another.

use super::broker::Broker;
use crate::device::Device;
use crate::site::{Site, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_does_not_subscribe_does_not_listen_for_the_one_whose_place_it_took() {
    let (broker, data) = (Broker::start(), tempfile::tempdir().unwrap());
    let site = Site::with(&broker, data.path(), ["dev1"]).await;
    let first = Device::of(&broker, "dev1").await;
    first.subscribe("srv/dev1/tsk").await;
    until("it listens", || async { site.engine.server().listening() == 1 }).await;
    let _second = Device::of(&broker, "dev1").await;
    until("nobody listens", || async { site.engine.server().listening() == 0 }).await;
    site.stop().await;
}
