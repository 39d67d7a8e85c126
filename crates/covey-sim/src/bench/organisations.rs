//! `bench organisations`: many organisations call at a rate that the server bears, and one floods it. Each of the
//! others is to keep its rate.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use covey_client::{ApiKeyNew, Client};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::bench::bed::{Bed, Crew};
use crate::bench::calls::{Callers, as_seconds};
use crate::bench::latency::{Latencies, LatencySummary};
use crate::bench::load::{self, LoadOptions, LoadOutcome, Pace};
use crate::error::{Error, Result};

/// What a key of such an organisation may do.
const RIGHTS: [&str; 4] = ["tasks:read", "tasks:write", "devices:read", "devices:write"];
/// Calls of a quiet organisation that may be under way: enough for a second of its rate.
const QUIET_CALLERS: usize = 64;
/// Which part of the capacity those take together that do not flood.
const QUIET_SHARE: f64 = 0.5;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrganisationsOptions {
    /// Organisations, with a key and a device each.
    pub organisations: NonZeroU32,
    /// Calls under way: of all in turn while the capacity is measured, then of the one that floods.
    pub callers: usize,
    /// Time that is not recorded, before each part.
    #[serde(rename = "warmup_s", serialize_with = "as_seconds")]
    pub warmup: Duration,
    /// Time that is recorded of each part.
    #[serde(rename = "duration_s", serialize_with = "as_seconds")]
    pub duration: Duration,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrganisationsResult {
    /// How it was measured.
    pub options: OrganisationsOptions,
    /// Calls a second that all of them together make in a closed loop.
    pub capacity_per_s: f64,
    /// Calls a second that are due of each that does not flood: together half of the capacity.
    pub rate_per_s: f64,
    /// Of what was due in the time, the part that ended well in it: of the one with the least.
    pub kept_min: f64,
    /// The same of the one in the middle.
    pub kept_median: f64,
    /// Calls of those that do not flood, from the instant each was due.
    pub latency: LatencySummary,
    /// What went wrong with them.
    pub errors: BTreeMap<String, u64>,
    /// Calls of theirs that had not ended half a minute after the end.
    pub unfinished: u64,
    /// Calls a second of the one that floods.
    pub flood_per_s: f64,
}

/// An organisation with its key and its device.
struct Organisation {
    crew: Crew,
    callers: Callers,
}

/// Measures.
///
/// # Errors
/// Those of the fleets and of the server, [`Error::NoCall`] if none came to a good end, and [`Error::Stopped`].
pub async fn organisations(bed: &Bed, options: OrganisationsOptions) -> Result<OrganisationsResult> {
    let mut all = Vec::new();
    for number in 1..=options.organisations.get() {
        all.push(Organisation::join(bed, number).await?);
    }
    let result = measure(bed, &all, options).await;
    for organisation in all {
        organisation.crew.simulation.stop().await;
    }
    result
}

impl Organisation {
    async fn join(bed: &Bed, number: u32) -> Result<Self> {
        let name = format!("{}-{number}", bed.prefix);
        let request = ApiKeyNew {
            org: Some(name.clone()),
            name: "bench".to_owned(),
            rights: RIGHTS.map(str::to_owned).to_vec(),
            ..ApiKeyNew::default()
        };
        let made = bed.client.api_key_add(&request).await?;
        let key = made.key.as_deref().unwrap_or_default();
        let client = Client::new(bed.client.base_url(), key, bed.ca_pem.as_deref())?;
        let own = Bed { client, identities: bed.identities.join(&name), prefix: name, ..bed.clone() };
        let crew = own.crew(NonZeroU32::MIN, QUIET_CALLERS).await?;
        crew.connect(1, None, &bed.stop).await?;
        let callers = Callers::new(own.client, &crew.fleet.members)?;
        Ok(Self { crew, callers })
    }
}

/// Load of one organisation alone.
async fn load_of(callers: Callers, bed: Bed, options: LoadOptions) -> LoadOutcome {
    let call = move |number| {
        let callers = callers.clone();
        async move { callers.call(number).await }
    };
    load::run(options, call, Arc::default(), bed.stop).await
}

#[allow(clippy::cast_precision_loss)] // counts far below 2^53
async fn measure(
    bed: &Bed,
    all: &[Organisation],
    options: OrganisationsOptions,
) -> Result<OrganisationsResult> {
    let OrganisationsOptions { callers, warmup, duration, .. } = options;
    let capacity_per_s = capacity(bed, all, &options).await?;
    let quiet = all.len().saturating_sub(1).max(1);
    let rate_per_s = capacity_per_s * QUIET_SHARE / quiet as f64;
    let mut running = JoinSet::new();
    for (number, organisation) in all.iter().enumerate() {
        let (pace, callers) =
            if number == 0 { (Pace::Closed, callers) } else { (Pace::PerSecond(rate_per_s), QUIET_CALLERS) };
        let options = LoadOptions { callers, pace, warmup, duration };
        let load = load_of(organisation.callers.clone(), bed.clone(), options);
        running.spawn(async move { (number, load.await) });
    }
    let (mut latencies, mut errors, mut unfinished, mut flood_per_s) =
        (Latencies::new(), BTreeMap::new(), 0, 0.0);
    let mut kept = Vec::new();
    while let Some(ended) = running.join_next().await {
        let Ok((number, outcome)) = ended else { continue };
        let window = outcome.window.as_secs_f64();
        if number == 0 {
            flood_per_s = outcome.completed as f64 / window;
            continue;
        }
        kept.push(outcome.kept as f64 / (rate_per_s * window));
        latencies.add(&outcome.latencies);
        unfinished += outcome.unfinished;
        for (kind, count) in outcome.errors {
            *errors.entry(kind).or_default() += count;
        }
    }
    if bed.stop.is_cancelled() {
        return Err(Error::Stopped);
    }
    kept.sort_by(f64::total_cmp);
    let latency = latencies.summary().ok_or_else(|| Error::NoCall { why: format!("{errors:?}") })?;
    Ok(OrganisationsResult {
        capacity_per_s,
        rate_per_s,
        kept_min: kept.first().copied().unwrap_or_default(),
        kept_median: kept.get(kept.len() / 2).copied().unwrap_or_default(),
        latency,
        errors,
        unfinished,
        flood_per_s,
        options,
    })
}

/// How many calls a second all of them make together, each call of another one.
#[allow(clippy::cast_precision_loss)] // a count far below 2^53
async fn capacity(bed: &Bed, all: &[Organisation], options: &OrganisationsOptions) -> Result<f64> {
    let each: Arc<[Callers]> = all.iter().map(|organisation| organisation.callers.clone()).collect();
    let call = move |number: u64| {
        let each = Arc::clone(&each);
        async move {
            let of = usize::try_from(number % each.len() as u64).unwrap_or_default();
            each[of].call(number).await
        }
    };
    let OrganisationsOptions { callers, warmup, duration, .. } = *options;
    let options = LoadOptions { callers, pace: Pace::Closed, warmup, duration };
    let outcome = load::run(options, call, Arc::default(), bed.stop.clone()).await;
    if bed.stop.is_cancelled() {
        return Err(Error::Stopped);
    }
    if outcome.completed == 0 {
        return Err(Error::NoCall { why: format!("{:?}", outcome.errors) });
    }
    Ok(outcome.completed as f64 / outcome.window.as_secs_f64())
}
