//! Calls and revocations over any link.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::AnyBroker;
use crate::device::Device;
use crate::site::Site;

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let place = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[place]
}

fn tell(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let (p50, p99) = (quantile(&took, 0.5), quantile(&took, 0.99));
    println!("{what}: p50 {p50:.2?}, p99 {p99:.2?}, n {}", took.len());
}

async fn call<B: AnyBroker>(site: &Site<B>, device: &mut Device) -> [Duration; 3] {
    let began = Instant::now();
    let id = site.create(&device.sn.clone()).await;
    device.next("tsk").await;
    let announced = began.elapsed();
    let asked = Instant::now();
    device.say("req", &id.to_string(), None).await;
    device.next("rsp").await;
    let answered = asked.elapsed();
    device.say("res", &id.to_string(), Some(200)).await;
    device.next("cmt").await;
    [announced, answered, began.elapsed()]
}

pub async fn latency_and_throughput<B: AnyBroker>(broker: B) {
    let data = tempfile::tempdir().unwrap();
    let site = Arc::new(Site::start(&broker, data.path(), "a").await);
    let mut devices = Vec::new();
    for _ in 0..64 {
        let sn = broker.sn("m");
        site.register(&sn).await;
        let device = Device::of(&broker, &sn).await;
        device.listen().await;
        devices.push(device);
    }
    let mut took = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..500 {
        let one = call(&site, &mut devices[0]).await;
        took.iter_mut().zip(one).for_each(|(all, one)| all.push(one));
    }
    let [announced, answered, whole] = took;
    tell("create to tsk, one call at a time", announced);
    tell("req to rsp, one call at a time", answered);
    tell("whole call with four messages, one at a time", whole);
    let began = Instant::now();
    let rounds = 100;
    let mut running = Vec::new();
    for mut device in devices {
        let site = Arc::clone(&site);
        running.push(tokio::spawn(async move {
            let mut whole = Vec::new();
            for _ in 0..rounds {
                whole.push(call(&site, &mut device).await[2]);
            }
            whole
        }));
    }
    let mut whole = Vec::new();
    let mut count = 0_u32;
    for one in running {
        let one = one.await.unwrap();
        count += u32::try_from(one.len()).unwrap();
        whole.extend(one);
    }
    let seconds = began.elapsed().as_secs_f64();
    tell("whole call, 64 under way", whole);
    println!("calls: {:.0}/s with 64 under way", f64::from(count) / seconds);
}

pub async fn revoking<B: AnyBroker>(broker: B) {
    let data = tempfile::tempdir().unwrap();
    let site = Site::start(&broker, data.path(), "a").await;
    let mut took = Vec::new();
    for _ in 0..50 {
        let sn = broker.sn("m");
        let registered = site.register(&sn).await;
        let mut device = Device::of(&broker, &sn).await;
        device.listen().await;
        let began = Instant::now();
        site.engine.for_caller(&site.caller).device_retire(registered.identity.device_id).await.unwrap();
        device.ends.recv().await.unwrap();
        took.push(began.elapsed());
    }
    tell("from the retirement to the end of the connection", took);
    site.stop().await;
}

/// Registers many devices, 64 at a time.
pub async fn register<B: AnyBroker>(site: &Arc<Site<B>>, count: usize, name: fn(usize) -> String) {
    const AT_ONCE: usize = 64;
    let began = Instant::now();
    let registering = (0..AT_ONCE).map(|worker| {
        let site = Arc::clone(site);
        tokio::spawn(async move {
            for number in (worker..count).step_by(AT_ONCE) {
                site.register(&name(number)).await;
            }
        })
    });
    for one in registering.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    println!("{count} devices were registered with their accounts in {:.1?}", began.elapsed());
}
