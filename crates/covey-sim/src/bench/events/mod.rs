//! `bench events`: devices send events, some of them twice; it is measured how
//! many the server acknowledges, and looked whether it has stored each once.
//! `bench streams`: one event after the other goes to many open streams.

mod connection;
mod fan_out;
mod load;
mod sender;
mod stream;
mod verify;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use covey_device::{Identity, TlsRoots};
use serde::Serialize;

use crate::bench::bed::Bed;
use crate::bench::calls::as_seconds;
use crate::bench::latency::{Latencies, LatencySummary};
use crate::bench::machine;
use crate::bench::server_work::{ServerCounters, ServerWork};
use crate::error::{Error, Result};
use crate::fleet::{Fleet, FleetOptions, Member};
use crate::open_files::allow_open_files;
use crate::quantity::Rate;
use connection::Address;
pub use fan_out::{StreamsOptions, StreamsResult, streams};
use load::{Identified, Plan};
use sender::Sent;
pub use verify::Verification;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventsOptions {
    /// Devices, connected all the time.
    pub devices: NonZeroU32,
    /// Messages of a device on their way at most; the server may allow fewer.
    pub window: u16,
    /// How many of the events are sent a second time, from 0 to 1.
    #[serde(serialize_with = "as_share")]
    pub duplicates: Rate,
    /// Events that are due each second (open loop; latency counts from the
    /// instant an event is due); `None`: as many as the server takes.
    pub rate_per_s: Option<f64>,
    /// Whether devices subscribe to the answers to events (`eva`).
    pub with_eva: bool,
    /// Events afterwards, one after the other, to measure the way to a stream.
    pub stream_events: u32,
    /// Time that is not recorded, before.
    #[serde(rename = "warmup_s", serialize_with = "as_seconds")]
    pub warmup: Duration,
    /// Time that is recorded.
    #[serde(rename = "duration_s", serialize_with = "as_seconds")]
    pub duration: Duration,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventsResult {
    /// How it was measured.
    pub options: EventsOptions,
    /// Events acknowledged each second, duplicates aside.
    pub events_per_s: f64,
    /// Duplicates acknowledged each second.
    pub duplicates_per_s: f64,
    /// Messages the server did not take, by its reason, over the whole run.
    pub refusals: BTreeMap<String, u64>,
    /// Connections that broke.
    pub broken: u64,
    /// Answers to events (`eva`) that came, over the whole run.
    pub evas: u64,
    /// From sending (closed loop) or being due (open loop) to the
    /// acknowledgement, duplicates aside.
    pub latency: LatencySummary,
    /// What the server did.
    pub server: ServerWork,
    /// The server's processor time for each acknowledged message, in microseconds.
    pub server_cpu_us_per_message: f64,
    /// The same of this process: all devices.
    pub own_cpu_us_per_message: f64,
    /// Whether each event is stored exactly once.
    pub verification: Verification,
    /// From sending an event to hearing of it on the stream, without other
    /// load; `None` if it was not asked for.
    pub stream_latency: Option<LatencySummary>,
}

/// Measures events.
///
/// # Errors
/// Those of the fleet and of the server, [`Error::NoEvent`] if none was
/// acknowledged, and [`Error::Stopped`].
pub async fn events(bed: &Bed, options: EventsOptions) -> Result<EventsResult> {
    allow_open_files(options.devices.get().into())?;
    let address = Address::parse(&bed.mqtts).ok_or_else(|| Error::Broker { url: bed.mqtts.clone() })?;
    let fleet = prepare(bed, options.devices).await?;
    let devices = identified(&fleet.members)?;
    let after = verify::newest(&bed.client).await?;

    let plan = Plan {
        address: address.clone(),
        with_eva: options.with_eva,
        window: options.window,
        duplicates: options.duplicates,
        rate_per_s: options.rate_per_s,
        warmup: options.warmup,
        duration: options.duration,
    };
    let running = load::start(plan, devices.clone(), bed.stop.clone())?;
    let recorded = match running.began.await {
        Ok(record_from) => Some(record(bed, record_from, options.duration).await?),
        // The load says why.
        Err(_) => None,
    };
    let sent = running.ended.await.map_err(|_| Error::Stopped)??;
    let recorded = recorded.ok_or(Error::Stopped)?;

    let sns: Vec<Arc<str>> = devices.iter().map(|device| Arc::clone(&device.sn)).collect();
    let verification = verify::verify(&bed.client, after, &sns, &sent, &bed.stop).await?;
    let stream_latency = match (devices.first(), sent.first()) {
        (Some(device), Some(sent)) => {
            let (last, events) = (sent.last_number, options.stream_events);
            stream::measure(&bed.client, &address, device, last, events).await?
        }
        _ => None,
    };
    result(options, &sent, recorded, verification, stream_latency)
}

async fn prepare(bed: &Bed, devices: NonZeroU32) -> Result<Fleet> {
    let options = FleetOptions {
        count: devices,
        prefix: bed.prefix.clone(),
        identities: bed.identities.clone(),
        ca_pem: bed.ca_pem.clone(),
    };
    tokio::select! {
        fleet = Fleet::prepare(&bed.client, &options) => fleet,
        () = bed.stop.cancelled() => Err(Error::Stopped),
    }
}

fn identified(members: &[Member]) -> Result<Vec<Identified>> {
    let Some(first) = members.first() else { return Ok(Vec::new()) };
    let roots = TlsRoots::from_ca_pem(first.ca_pem.as_bytes())?;
    let identified = |member: &Member| {
        let Member { ca_pem, certificate_pem, private_key_pem, .. } = member;
        let identity =
            Identity::from_pem(ca_pem.as_bytes(), certificate_pem.as_bytes(), private_key_pem.as_bytes())?;
        let tls = identity.client_config(Some(&roots))?;
        Ok(Identified { sn: Arc::clone(&member.sn), tls: Arc::new(tls) })
    };
    members.iter().map(identified).collect()
}

/// What was seen of the server and this process while events were recorded.
struct Recorded {
    work: ServerWork,
    own_cpu_s: f64,
}

async fn record(bed: &Bed, from: Instant, duration: Duration) -> Result<Recorded> {
    let course = async {
        tokio::time::sleep_until(from.into()).await;
        let (before, own_before) = (ServerCounters::read(&bed.client).await?, machine::cpu_seconds());
        tokio::time::sleep_until((from + duration).into()).await;
        let own_cpu_s = machine::cpu_seconds() - own_before;
        let after = ServerCounters::read(&bed.client).await?;
        Ok(Recorded { work: after.work_since(&before), own_cpu_s })
    };
    tokio::select! {
        recorded = course => recorded,
        () = bed.stop.cancelled() => Err(Error::Stopped),
    }
}

fn result(
    options: EventsOptions,
    sent: &[Sent],
    recorded: Recorded,
    verification: Verification,
    stream_latency: Option<LatencySummary>,
) -> Result<EventsResult> {
    let mut latencies = Latencies::new();
    let mut refusals = BTreeMap::<String, u64>::new();
    let (mut acknowledged, mut duplicates, mut evas) = (0, 0, 0);
    for sent in sent {
        latencies.add(&sent.latencies);
        acknowledged += sent.acknowledged;
        duplicates += sent.duplicates_acknowledged;
        evas += sent.evas;
        for (reason, count) in &sent.refusals {
            *refusals.entry(reason.clone()).or_default() += count;
        }
    }
    let broken: Vec<_> = sent.iter().filter_map(|sent| sent.broken.as_deref()).collect();
    let Some(latency) = latencies.summary() else {
        let refused = refusals.iter().map(|(reason, count)| format!("{count} × {reason}"));
        let why: Vec<_> = refused.chain(broken.first().map(|why| (*why).to_owned())).collect();
        return Err(Error::NoEvent { why: why.join(", ") });
    };
    let window_s = options.duration.as_secs_f64();
    #[allow(clippy::cast_precision_loss)] // counts are far below 2^53
    let (events, duplicates) = (acknowledged as f64, duplicates as f64);
    Ok(EventsResult {
        events_per_s: events / window_s,
        duplicates_per_s: duplicates / window_s,
        refusals,
        broken: broken.len() as u64,
        evas,
        latency,
        server_cpu_us_per_message: recorded.work.cpu_s * 1e6 / (events + duplicates),
        own_cpu_us_per_message: recorded.own_cpu_s * 1e6 / (events + duplicates),
        server: recorded.work,
        verification,
        stream_latency,
        options,
    })
}

fn as_share<S: serde::Serializer>(rate: &Rate, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(rate.share())
}
