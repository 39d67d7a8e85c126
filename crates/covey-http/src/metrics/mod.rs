//! What is measured: the core's steps and counts (as its [`Observer`]), the
//! requests over HTTP, and the state of the tasks and the process at the
//! moment of a scrape.

mod exposition;
mod findings;
pub(crate) mod page;
mod parts;
mod process;
mod tokens;
mod webhooks;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use axum::extract::MatchedPath;
use axum::http::{Method, StatusCode};
use covey_core::node::{NodeCount, NodeState};
use covey_core::port::{Event, Observer, Refusal, Step};
use covey_core::task::{TaskCount, TaskStatus};
use covey_core::webhook::Outcome;

use crate::ended::Ended;
use crate::shares::{Full, Holder, Kind};

/// Bounds of the buckets of durations, in seconds.
const SECONDS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];
/// Bounds of the buckets of how many operations share a commit.
const OPERATIONS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Of how many organisations is told at most what they keep: of those that keep most.
/// Limit for each look at `/metrics`: further ones are not told.
const ORGS_MAX: usize = 1_000;

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// Everything that is measured, for `/metrics`.
pub struct Metrics {
    registry: Registry,
    steps: [Histogram; Step::NAMES.len()],
    refusals: [Counter; Refusal::NAMES.len()],
    devices_connected: Gauge,
    connects: Counter,
    disconnects: Counter,
    announcements: Counter,
    duplicate_results: Counter,
    events_stored: Counter,
    duplicate_events: Counter,
    gauges_set: Counter,
    webhooks: Family<WebhookOutcome, Counter>,
    webhook_states: webhooks::Webhooks,
    parts: parts::Parts,
    findings: findings::Findings,
    tokens: tokens::Tokens,
    commits: Counter,
    group_size: Histogram,
    requests: Family<Request, Counter>,
    request_seconds: Family<Route, Histogram, fn() -> Histogram>,
    tasks: Family<Status, Gauge>,
    nodes: Family<State, Gauge>,
    queue_depth: Gauge,
    streams: Gauge,
    waiting: Gauge,
    shares_full: Family<ShareName, Counter>,
    kept: Family<Org, Gauge>,
    connections_ended: [Counter; Ended::NAMES.len()],
    unsent: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepName {
    step: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookOutcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShareName {
    what: &'static str,
    holder: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Org {
    organisation: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: &'static str,
    route: RouteName,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: RouteName,
    status: u16,
}

/// The route of a request as it was registered, so that ids in paths do not
/// make new time series.
#[derive(Clone, Debug)]
pub(crate) struct RouteName(pub(crate) Option<MatchedPath>);

impl RouteName {
    /// Its path; both spellings of a path are one route.
    pub(crate) fn as_str(&self) -> &str {
        match &self.0 {
            Some(path) => match path.as_str().trim_end_matches('/') {
                "" => "/",
                path => path,
            },
            None => "none",
        }
    }
}

impl PartialEq for RouteName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RouteName {}

impl std::hash::Hash for RouteName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl EncodeLabelValue for RouteName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.as_str().encode(encoder)
    }
}

/// The name of a method; those that nobody has standardised share one.
fn method_name(method: &Method) -> &'static str {
    const NAMES: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    NAMES.into_iter().find(|name| *name == method.as_str()).unwrap_or("OTHER")
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing measured yet.
    #[must_use]
    pub fn new() -> Self {
        let steps: Family<StepName, Histogram, fn() -> Histogram> = Family::new_with_constructor(seconds);
        let refusals: Family<Reason, Counter> = Family::default();
        let ended: Family<Reason, Counter> = Family::default();
        let mut metrics = Self {
            registry: Registry::default(),
            steps: Step::NAMES.map(|(_, step)| steps.get_or_create_owned(&StepName { step })),
            refusals: Refusal::NAMES.map(|(_, reason)| refusals.get_or_create_owned(&Reason { reason })),
            devices_connected: Gauge::default(),
            connects: Counter::default(),
            disconnects: Counter::default(),
            announcements: Counter::default(),
            duplicate_results: Counter::default(),
            events_stored: Counter::default(),
            duplicate_events: Counter::default(),
            gauges_set: Counter::default(),
            webhooks: Family::default(),
            webhook_states: webhooks::Webhooks::default(),
            parts: parts::Parts::default(),
            findings: findings::Findings::default(),
            tokens: tokens::Tokens::default(),
            commits: Counter::default(),
            group_size: Histogram::new(OPERATIONS),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            tasks: Family::default(),
            nodes: Family::default(),
            queue_depth: Gauge::default(),
            streams: Gauge::default(),
            waiting: Gauge::default(),
            shares_full: Family::default(),
            kept: Family::default(),
            connections_ended: Ended::NAMES.map(|(_, reason)| ended.get_or_create_owned(&Reason { reason })),
            unsent: Gauge::default(),
        };
        // What has not happened yet is 0 and not missing, so that an alert sees it begin.
        for (_, outcome) in Outcome::NAMES {
            metrics.webhooks.get_or_create(&WebhookOutcome { outcome }).inc_by(0);
        }
        for what in Kind::ALL {
            for holder in Holder::ALL
                .into_iter()
                .filter(|holder| *holder != Holder::Strangers || what == Kind::Requests)
            {
                metrics
                    .shares_full
                    .get_or_create(&ShareName { what: what.name(), holder: holder.name() })
                    .inc_by(0);
            }
        }
        metrics.register(steps, refusals, ended);
        metrics
    }

    fn register(
        &mut self,
        steps: Family<StepName, Histogram, fn() -> Histogram>,
        refusals: Family<Reason, Counter>,
        ended: Family<Reason, Counter>,
    ) {
        let r = &mut self.registry;
        r.register_with_unit("covey_step", "How long a step took", Unit::Seconds, steps);
        r.register("covey_refusals", "What was refused, by reason", refusals);
        r.register("covey_devices_connected", "Devices connected now", self.devices_connected.clone());
        r.register("covey_device_connects", "Connections of devices", self.connects.clone());
        r.register("covey_device_disconnects", "Ends of connections of devices", self.disconnects.clone());
        r.register("covey_announcements", "Announcements of tasks to devices", self.announcements.clone());
        r.register("covey_duplicate_results", "Results that came again", self.duplicate_results.clone());
        r.register("covey_events", "Events that were stored", self.events_stored.clone());
        r.register("covey_duplicate_events", "Events that came again", self.duplicate_events.clone());
        r.register("covey_gauges", "Gauges that were set", self.gauges_set.clone());
        r.register("covey_webhook_attempts", "Messages of webhooks that were sent", self.webhooks.clone());
        self.webhook_states.register(r);
        self.parts.register(r);
        self.findings.register(r);
        self.tokens.register(r);
        r.register("covey_store_commits", "Commits of the store", self.commits.clone());
        r.register("covey_store_group_size", "Operations that shared a commit", self.group_size.clone());
        r.register("covey_http_requests", "Requests over HTTP", self.requests.clone());
        let request_seconds = self.request_seconds.clone();
        r.register_with_unit("covey_http_request", "How long a request took", Unit::Seconds, request_seconds);
        r.register("covey_tasks", "Tasks by state", self.tasks.clone());
        r.register("covey_nodes", "Nodes by state", self.nodes.clone());
        r.register("covey_queue_depth", "Tasks that are not final", self.queue_depth.clone());
        r.register("covey_streams", "Open streams", self.streams.clone());
        r.register("covey_waiting_callers", "Callers that wait for a task", self.waiting.clone());
        r.register("covey_shares_full", "Refusals because a share was full", self.shares_full.clone());
        r.register_with_unit("covey_kept", "What an organisation keeps", Unit::Bytes, self.kept.clone());
        let unsent = self.unsent.clone();
        r.register_with_unit("covey_http_unsent", "Answers that were not taken yet", Unit::Bytes, unsent);
        r.register("covey_http_connections_ended", "Connections over HTTP that ended, by reason", ended);
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("covey_build", "The program that runs", version);
        r.register_collector(Box::new(process::Process));
    }

    /// Counts a request and how long it took.
    pub(crate) fn request(&self, method: &Method, route: RouteName, status: StatusCode, seconds: f64) {
        let method = method_name(method);
        let request = Request { method, route, status: status.as_u16() };
        self.requests.get_or_create(&request).inc();
        let route = Route { method, route: request.route };
        self.request_seconds.get_or_create(&route).observe(seconds);
    }

    /// Counts a refusal because somebody has as much as may be.
    pub(crate) fn share_was_full(&self, full: Full) {
        let name = ShareName { what: full.kind.name(), holder: full.holder.name() };
        self.shares_full.get_or_create(&name).inc();
    }

    /// Counts a connection that ended.
    pub(crate) fn connection_ended(&self, why: Ended) {
        if let Some(index) = Ended::NAMES.iter().position(|(known, _)| *known == why) {
            self.connections_ended[index].inc();
        }
    }

    /// Takes note of how much of answers was not taken yet, in bytes.
    fn set_unsent(&self, bytes: usize) {
        self.unsent.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Takes note of how much organisations keep, in bytes: of those that keep most.
    fn set_kept(&self, mut by_org: Vec<(String, u64)>) {
        self.kept.clear();
        by_org.sort_unstable_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        for (organisation, bytes) in by_org.into_iter().take(ORGS_MAX) {
            self.kept.get_or_create(&Org { organisation }).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// Takes note of how many streams are open.
    fn set_streams(&self, open: usize) {
        self.streams.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// Takes note of how many tasks are in each state.
    fn set_tasks(&self, counts: &[TaskCount]) {
        let mut open = 0;
        for status in TaskStatus::ALL {
            let counted = counts.iter().filter(|entry| entry.status == status).map(|entry| entry.count);
            let count = i64::try_from(counted.sum::<u64>()).unwrap_or(i64::MAX);
            self.tasks.get_or_create(&Status { status: status.name() }).set(count);
            if !status.is_final() {
                open += count;
            }
        }
        self.queue_depth.set(open);
    }

    /// Takes note of how many nodes are in each state.
    fn set_nodes(&self, counts: &[NodeCount]) {
        for (state, name) in NodeState::NAMES {
            let counted = counts.iter().filter(|entry| entry.state == state).map(|entry| entry.count);
            let count = i64::try_from(counted.sum::<u64>()).unwrap_or(i64::MAX);
            self.nodes.get_or_create(&State { state: name }).set(count);
        }
    }
}

impl Observer for Metrics {
    #[allow(clippy::cast_precision_loss)] // durations are far below 2^53 microseconds
    fn took(&self, step: Step, duration_us: u64) {
        if let Some(index) = Step::NAMES.iter().position(|(known, _)| *known == step) {
            self.steps[index].observe(duration_us as f64 / 1e6);
        }
    }

    #[allow(clippy::cast_precision_loss)] // a group is far below 2^53 operations
    fn happened(&self, event: Event) {
        match event {
            Event::Refused(refusal) => {
                if let Some(index) = Refusal::NAMES.iter().position(|(known, _)| *known == refusal) {
                    self.refusals[index].inc();
                }
            }
            Event::Connected => {
                self.connects.inc();
                self.devices_connected.inc();
            }
            Event::Disconnected => {
                self.disconnects.inc();
                self.devices_connected.dec();
            }
            Event::Announced => _ = self.announcements.inc(),
            Event::DuplicateResult => _ = self.duplicate_results.inc(),
            Event::EventStored => _ = self.events_stored.inc(),
            Event::DuplicateEvent => _ = self.duplicate_events.inc(),
            Event::GaugeSet => _ = self.gauges_set.inc(),
            Event::Webhook(outcome) => {
                self.webhooks.get_or_create(&WebhookOutcome { outcome: outcome.name() }).inc();
            }
            Event::Committed { operations } => {
                self.commits.inc();
                self.group_size.observe(operations as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_happened_is_on_the_page() {
        let metrics = Metrics::new();
        metrics.took(Step::Commit, 700);
        metrics.happened(Event::Refused(Refusal::Credential));
        metrics.happened(Event::Connected);
        metrics.happened(Event::Committed { operations: 3 });
        metrics.connection_ended(Ended::Stalled);
        metrics.request(&Method::GET, RouteName(None), StatusCode::NOT_FOUND, 0.002);
        metrics.set_tasks(&[TaskCount { status: TaskStatus::Lock, count: 5 }]);
        metrics.set_nodes(&[NodeCount { state: NodeState::Waiting, count: 4 }]);
        let page = metrics.page(exposition::Format::OpenMetrics, 2).unwrap();
        for line in [
            "covey_step_seconds_count{step=\"commit\"} 1",
            "covey_step_seconds_bucket{le=\"0.001\",step=\"commit\"} 1",
            "covey_step_seconds_count{step=\"create\"} 0",
            "covey_refusals_total{reason=\"credential\"} 1",
            "covey_devices_connected 1",
            "covey_store_commits_total 1",
            "covey_store_group_size_sum 3.0",
            "covey_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
            "covey_http_request_seconds_count{method=\"GET\",route=\"none\"} 1",
            "covey_http_connections_ended_total{reason=\"stalled\"} 1",
            "covey_http_connections_ended_total{reason=\"idle\"} 0",
            "covey_tasks{status=\"LOCK\"} 5",
            "covey_nodes{state=\"waiting\"} 4",
            "covey_nodes{state=\"blocked\"} 0",
            "covey_queue_depth 5",
            "covey_waiting_callers 2",
            "# EOF",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing in:\n{page}");
        }
        if cfg!(target_os = "linux") {
            for name in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"] {
                let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
                assert!(value.is_some(), "{name} is missing in:\n{page}");
            }
        }
    }
}
