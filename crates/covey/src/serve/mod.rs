//! `covey up`: a server, wired together from what the settings name, from the
//! first bind to the last goodbye.

pub mod admin_key;
pub mod data_dir;
mod discovery;
mod files;
pub mod findings;
pub mod first_start;
pub mod gateways;
mod link;
mod microcontrollers;
mod names;
pub mod parts;
mod pki_forms;
mod pusher;
mod renewal;
mod revocation;
mod routes;
mod store;
mod token_key;
mod tokens;
pub mod units;
mod work;

use std::error::Error as _;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use covey_core::budget::{Budgets, Rate};
use covey_core::error::{Error, StorageFault};
use covey_core::limits::Limits;
use covey_core::links::Links;
use covey_core::port::{Clock, Observer};
use covey_core::retention::{RetentionClass, RetentionDays};
use covey_core::webhook::address::AddressRule;
use covey_core::{Engine, Parts};
use covey_pki::{Authority, CertificateLifetimes, RevocationUrls, ServerCertResolver};
use covey_store::sqlite::Disk;
use covey_webhook::HttpSender;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::doctor::Surroundings;
use crate::fault;
use crate::serve::admin_key::AdminKey;
use crate::serve::data_dir::{Addresses, DataDir};
use crate::serve::files::OpenFiles;
use crate::serve::gateways::Gateways;
pub use crate::serve::gateways::{passwords, taken};
use crate::serve::link::DeviceLink;
use crate::serve::microcontrollers::Microcontrollers;
use crate::serve::names::Hosts;
use crate::serve::parts::{Issuer, RandomIds};
use crate::serve::store::OpenStore;
use crate::serve::units::UnitRule;
use crate::settings::{EMBEDDED, SQLITE, Settings};

/// Runs a server until it is told to stop. `begins_anew`: its operator insists on an
/// empty database where the one of the keys that are there is missing, or on another CA.
pub async fn up(settings: Settings, begins_anew: bool) -> Result<()> {
    let began = Instant::now();
    let files = files::share_out(&settings);
    let data = DataDir::open(&settings.data)?;
    let disk = store::disk(&settings, &data)?;
    let outcome = run(settings, data, disk.clone(), files, begins_anew, began).await;
    outcome.map_err(|error| match disk.filter(|disk| disk.is_full()) {
        Some(disk) => fault::setup(format!(
            "{error:#}; the disk is full ({} bytes are free): delete something on it that is not Covey's, and start again",
            disk.free_bytes()
        )),
        None => error,
    })
}

async fn run(
    settings: Settings,
    data: DataDir,
    disk: Option<Arc<Disk>>,
    files: Option<OpenFiles>,
    begins_anew: bool,
    began: Instant,
) -> Result<()> {
    if settings.store.scheme() == SQLITE {
        first_start::ensure_database(&data, begins_anew)?;
        first_start::ensure_authority(&data, begins_anew || settings.pki_from.is_some())?;
    }
    let http = bind("HTTP", "--http", settings.http)?;
    let https = bind("HTTPS", "--https", settings.https)?;
    let metrics_alone = settings.metrics.map(|address| bind("metrics", "--metrics", address)).transpose()?;
    let unit_rule = UnitRule::new(&settings.units_allow)?;
    let mut gateways = Gateways::bind(&settings, &unit_rule)?;
    let microcontrollers = Microcontrollers::bind(&settings)?;
    let pusher = settings.pusher.as_deref().map(covey_gateway::pusher::config::Config::read);
    let pusher = pusher.transpose().map_err(fault::setup)?;

    let mdns_host = discovery::host(&settings.server_name);
    let hosts = Hosts::of(&settings, settings.mdns.then_some(&mdns_host));
    let names = hosts.with(&names::own_addresses().unwrap_or_default());
    let authority = Arc::new(open_authority(&data, &settings)?);
    let certificate =
        authority.server_certificate(&names, OffsetDateTime::now_utc()).map_err(fault::setup)?;
    let resolver = Arc::new(ServerCertResolver::new(&certificate).map_err(fault::setup)?);

    gateways.ask_of_mqtt_nodes(&settings, &resolver)?;

    let metrics = Arc::new(covey_http::Metrics::new());
    let observer: Arc<dyn Observer> = metrics.clone();
    let watching = Arc::clone(&observer);
    gateways.count_with(&watching);
    let clock = store::clock(&settings).await?;
    let OpenStore { store, peers, heard } =
        store::open(&settings, &data, disk, &authority, &clock, &observer).await?;
    let link = DeviceLink::make(&settings, &data, &authority, &clock, &observer)?;
    let link_port = link.port();
    let sender = webhook_sender(&settings, Arc::clone(&clock))?;
    let engine = Engine::new(Parts {
        store,
        links: Links::new(
            std::iter::once(Arc::clone(&link_port))
                .chain(link.microcontrollers(&settings))
                .chain(gateways.links()),
        ),
        peers,
        issuer: Arc::new(Issuer(Arc::clone(&authority))),
        clock,
        ids: Arc::new(RandomIds),
        observer,
        key_hasher: covey_http::key_digest,
        limits: limits(&settings),
        retention: retention(&settings)?,
        budgets: budgets(&settings),
        gauge_types: settings.gauge_types.iter().copied().map(i64::from).collect(),
        unit_rule: {
            let rule = Arc::clone(&unit_rule);
            Arc::new(move |address| rule.check(address))
        },
        webhooks: sender.clone(),
        webhook_retry_ms: i64::from(settings.webhook_retry_seconds) * 1_000,
    });
    let engine = Arc::new(engine);
    let admin_key = admin_key::ensure(&data, &engine).await?;
    // Beside the first key, so that a site that was there before people were is asked nothing.
    let first_person = match admin_key {
        AdminKey::Made => engine.server().person_first(admin_key::FIRST_ORG, admin_key::FIRST_NAME).await?,
        _ => None,
    };
    let forgotten = async {
        // Nodes also where no gateway is switched on now: one may have been before.
        if heard.is_some() {
            engine.server().presence_clear(&settings.server_name).await?;
            engine.server().nodes_passing_clear(&settings.server_name).await
        } else {
            engine.server().presence_clear_all().await?;
            engine.server().nodes_passing_clear_all().await
        }
    };
    match forgotten.await {
        Err(Error::Unavailable { reason: StorageFault::Full }) => {
            tracing::warn!("devices that were connected before this start may be shown so: the disk is full");
        }
        outcome => outcome?,
    }

    let link = link.start(&engine, &settings, files.as_ref(), &certificate, &authority).await?;
    let mut listeners = gateways.listeners()?;
    listeners.extend([http.local_addr()?, https.local_addr()?]);
    listeners.extend(metrics_alone.as_ref().map(TcpListener::local_addr).transpose()?);
    listeners.extend(microcontrollers.as_ref().map(|listener| listener.socket.local_addr()).transpose()?);
    listeners.extend(link.address());
    unit_rule.listens(listeners);
    let devices_url = settings.devices_url.clone().unwrap_or_else(|| link.devices_url(&settings));
    let mut addresses = Addresses {
        http: format!("http://{}", http.local_addr()?),
        https: format!("https://{}", reachable(https.local_addr()?)),
        mqtts: devices_url,
        metrics: match &metrics_alone {
            Some(listener) => Some(format!("http://{}", reachable(listener.local_addr()?))),
            None => None,
        },
        ..Addresses::default()
    };
    gateways.tell(settings.mqtt_nodes_tls, &mut addresses)?;
    if let Some(Microcontrollers { socket, .. }) = &microcontrollers {
        addresses.mcu_http = Some(format!("https://{}", reachable(socket.local_addr()?)));
    }
    let plan = discovery::Plan::new(
        &covey_discovery::fingerprint(authority.root_der()),
        &gateways.reached(settings.mqtt_nodes_tls, https.local_addr()?, link.listener())?,
    );

    let stop = CancellationToken::new();
    let running = TaskTracker::new();
    let mut token_work = tokens::open(&settings, &data, &authority).await?;
    let api = covey_http::Api::new(Arc::clone(&engine), metrics, stop.clone());
    let api = api.taking_tokens(token_work.tokens()).signing_in_with(token_work.logins());
    let api = api.trusting_proxies_of(authority.root_der()).map_err(fault::setup)?;
    let api = api.telling_revocations_by(Arc::new(revocation::Revocations(Arc::clone(&authority))));
    let origins = settings.cors_origins.iter().map(String::as_str);
    let api = api.allowing_origins(covey_http::AllowedOrigins::read(origins).map_err(fault::setup)?);
    let api = match settings.public_url.as_deref().map(covey_http::PublicUrl::read).transpose() {
        Ok(Some(url)) => api.reached_at(url),
        Ok(None) => api,
        Err(must) => return Err(fault::setup(must)),
    };
    let api = api.bounding_answers(usize::try_from(settings.answer_bytes_max.0).unwrap_or(usize::MAX));
    let api = api.with_pki(Arc::new(pki_forms::Forms(Arc::clone(&authority))));
    // Before units are asked what they read.
    let since = engine.server().record_span_of_every_org().await?.settled;
    let node_files = files.as_ref().map(|files| &files.nodes);
    let (on_http, units) = gateways.start(&engine, &settings, &unit_rule, node_files, &running, &stop)?;
    let pusher = match pusher {
        Some(config) => Some(pusher::open(config, &settings, &engine, units, since, &stop)?),
        None => None,
    };
    let on_http = routes::OnHttp { pusher, ..on_http };
    let board = Arc::default();
    let api = api.showing_findings(Arc::clone(&board));
    let app = covey_http::router_with(api, |door| on_http.routes(door));
    if let Some(pusher) = on_http.pusher {
        running.spawn(pusher.run());
    }
    let (http_files, https_files, metrics_files, mcu_files) = match files {
        Some(files) => (Some(files.http), Some(files.https), Some(files.metrics), Some(files.nodes)),
        None => (None, None, None, None),
    };
    if let Some(listener) = metrics_alone {
        running.spawn(covey_http::serve_http(listener, app.measurements(), metrics_files, stop.clone()));
    }
    let tls = covey_pki::https_server_config(Arc::clone(&resolver)).map_err(fault::setup)?;
    let mcu_hosts = microcontrollers.as_ref().map(|listener| listener.hosts(&names)).transpose()?;
    if let (Some(microcontrollers), Some(hosts)) = (microcontrollers, &mcu_hosts) {
        let app = microcontrollers.app(&app, &settings, hosts.clone());
        let (socket, tls) = (microcontrollers.socket, Arc::clone(&tls));
        running.spawn(covey_http::serve_https(socket, tls, app, mcu_files, stop.clone()));
    }
    running.spawn(covey_http::serve_http(http, app.clone(), http_files, stop.clone()));
    let renewed_after = renewed_after(&settings);
    let tls = covey_pki::https_server_config_for_renewals(Arc::clone(&resolver), renewed_after);
    let tls = tls.map_err(fault::setup)?;
    running.spawn(covey_http::serve_https(https, tls, app, https_files, stop.clone()));
    if settings.mdns {
        let name = settings.server_name.clone();
        running.spawn(discovery::announce(plan, mdns_host, name, watching, stop.clone()));
    }
    let background = CancellationToken::new();
    let server_name = settings.server_name.clone();
    running.spawn(covey_webhook::run(Arc::clone(&engine), sender, server_name, background.clone()));
    work::spawn(&running, &engine, heard, &background);
    let watch = findings::Watch {
        surroundings: Surroundings::of(&settings),
        engine: Arc::clone(&engine),
        link: Arc::clone(&link_port),
        board,
        settings: settings.clone(),
    };
    running.spawn(background.clone().run_until_cancelled_owned(watch.run()));
    token_work.start(&engine, &running, &background).await;
    let renew_at = certificate.renew_at();
    let certified = renewal::Certified { authority, hosts, names, resolver, mcu_hosts, renew_at };
    let renewing = tokio::spawn(renewal::run(certified, link, background.clone()));
    running.close();

    // Whoever reads the addresses may also send a signal.
    let mut signals = Signals::listen()?;
    let link_fault = link::first_outcome(&*link_port).await;
    data.write_addresses(&addresses)?;
    welcome(&data, &settings, &addresses, link_fault, (admin_key, first_person), began.elapsed());
    signals.wait().await;

    tracing::info!("stopping: finishing running requests, disconnecting devices");
    stop.cancel();
    background.cancel();
    if let Ok(link) = renewing.await {
        link.stop().await;
    }
    running.wait().await;
    if let Err(error) = engine.server().quota_flush().await {
        tracing::warn!(%error, "what was stored last is not counted");
    }
    drop(engine);
    tracing::info!("stopped");
    Ok(())
}

pub fn bind(what: &str, option: &str, address: SocketAddr) -> Result<TcpListener> {
    covey_http::bind(address).map_err(|error| {
        let error = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        fault::setup(format!(
            "cannot listen for {what} on {address}: {error}; stop what uses the port, or give another with {option}"
        ))
    })
}

fn open_authority(data: &DataDir, settings: &Settings) -> Result<Authority> {
    let lifetimes = CertificateLifetimes {
        server: Duration::from_secs(settings.server_certificate_seconds.into()),
        device: Duration::from_secs(settings.device_certificate_seconds.into()),
        ..CertificateLifetimes::default()
    };
    let now = OffsetDateTime::now_utc();
    if let Some(from) = &settings.pki_from {
        Authority::adopt(from, &data.pki_path(), now).map_err(fault::setup)?;
    }
    let authority = Authority::open_or_create(&data.pki_path(), lifetimes, now).map_err(fault::setup)?;
    let urls = RevocationUrls { crl: settings.crl_url.clone(), ocsp: settings.ocsp_url.clone() };
    let authority = authority.with_revocation_urls(urls);
    for notice in authority.notices(now) {
        if notice.is_warning() {
            tracing::warn!("{notice}");
        } else {
            tracing::info!("{notice}");
        }
    }
    Ok(authority)
}

/// How long after its end a certificate may be renewed.
fn renewed_after(settings: &Settings) -> Duration {
    Duration::from_secs(u64::from(settings.renew_expired_days) * 24 * 3_600)
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        lease_ms: i64::from(settings.lease_seconds) * 1000,
        announcements_max: settings.announcements_max,
        live_tasks_per_device_max: settings.open_tasks_max,
        device_bytes_max: settings.device_bytes_max.0,
        org_bytes_max: settings.organisation_bytes_max.0,
        stream_bytes_max: usize::try_from(settings.stream_bytes_max.0).unwrap_or(usize::MAX),
        renew_expired_ms_max: i64::try_from(renewed_after(settings).as_millis()).unwrap_or(i64::MAX),
        ..Limits::default()
    }
}

fn retention(settings: &Settings) -> Result<RetentionDays> {
    let mut days = RetentionDays::default();
    for (kept, number) in [
        (RetentionClass::Tasks, settings.retention_days),
        (RetentionClass::Events, settings.event_retention_days),
        (RetentionClass::Records, settings.record_retention_days),
        (RetentionClass::TwinHistory, settings.twin_retention_days),
        (RetentionClass::Audit, settings.audit_retention_days),
    ] {
        days.set(kept, number).map_err(fault::setup)?;
    }
    Ok(days)
}

/// What a device may bring at once after a silence, in seconds of what it may send.
const BURST_S: u64 = 10;

fn webhook_sender(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Arc<HttpSender>> {
    let rule = AddressRule::parse(settings.webhook_allow.iter().map(String::as_str)).map_err(fault::setup)?;
    let options = covey_webhook::Options { rule, ca_file: settings.webhook_ca.clone() };
    HttpSender::new(&options, clock).map_err(fault::setup)
}

fn budgets(settings: &Settings) -> Budgets {
    let per_second = u64::from(settings.events_per_second_max);
    let defaults = Budgets::default().with_device_units(Rate { per_second, burst: per_second * BURST_S });
    defaults
        .with_device_bytes_a_day(settings.device_bytes_per_day_max.0)
        .with_org_bytes_per_second(settings.organisation_bytes_per_second_max.0)
}

/// An address at which a client on this machine reaches a listener.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        _ => address,
    }
}

/// Prints a line of the start text. Where it cannot be written, because the disk
/// behind it is full or nobody reads, the server goes on all the same.
macro_rules! say {
    ($($part:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($part)*);
    }};
}

fn welcome(
    data: &DataDir,
    settings: &Settings,
    addresses: &Addresses,
    link_fault: Option<String>,
    (admin_key, first_person): (AdminKey, Option<String>),
    took: Duration,
) {
    let folder = data.path().display();
    let (version, took_ms) = (env!("CARGO_PKG_VERSION"), took.as_millis());
    match &link_fault {
        None => say!("Covey {version} is ready after {took_ms} ms."),
        Some(_) => {
            say!("Covey {version} runs after {took_ms} ms and is not ready: devices are out of reach.")
        }
    }
    say!("  REST API   {}/api/v1   {}/api/v1", addresses.http, addresses.https);
    say!("  Swagger UI {}/docs", addresses.http);
    say!("  devices    {}   (MQTT 5 and 3.1.1, mutual TLS)", addresses.mqtts);
    if let Some(metrics) = &addresses.metrics {
        say!("  metrics    {metrics}/metrics");
    }
    for (what, url) in [
        ("CoAP", &addresses.coap),
        ("CoAP over DTLS", &addresses.coaps),
        ("MQTT", &addresses.mqtt_nodes),
        ("MQTT-SN", &addresses.mqtt_sn),
        ("WebSocket", &addresses.websocket_nodes),
    ] {
        if let Some(url) = url {
            say!("  nodes      {url}   ({what}; who may join: {})", settings.nodes);
        }
    }
    if let Some(url) = &addresses.mcu_http {
        say!("  boards     {url}   (the calls of microcontrollers, without an API key)");
    }
    if settings.pusher.is_some() {
        let url = addresses.https.replacen("https", "wss", 1);
        say!(
            "  Pusher     {url}/app/KEY   (apps of {})",
            settings.pusher.as_deref().unwrap_or(data.path()).display()
        );
    }
    if let Some(url) = &addresses.node_broker {
        say!(
            "  broker     {url}/ws   {url}/gw   (web clients without a credential; gateways with a key file)"
        );
    }
    if settings.mdns {
        say!("  mDNS       {}   (docs/discovery.md)", covey_discovery::instance_name(&settings.server_name));
    }
    say!("  data       {folder}   (CA certificate: {folder}/pki/ca.pem)");
    if settings.store.scheme() != SQLITE {
        say!("  store      {}", settings.store);
    }
    match link_fault {
        Some(why) => say!("  link       {}: not connected yet ({why}); retrying", settings.link),
        None if settings.link.scheme() != EMBEDDED => say!("  link       {}", settings.link),
        None => {}
    }
    if let Some(advice) = admin_key.advice(data, settings) {
        say!("  API key    {advice}");
        return;
    }
    if let Some(token) = first_person {
        let origin = settings.public_url.as_deref().unwrap_or(&addresses.http).trim_end_matches('/');
        say!(
            "  sign in    {origin}/invite#{token}   (as {}; once, within 15 minutes)",
            admin_key::FIRST_NAME
        );
    }
    say!("  API key    {}", data.admin_key_path().display());
    if let (AdminKey::Made, Ok(Some(key))) = (admin_key, data.admin_key()) {
        say!("             {key}   (shown this once)");
    }
    say!("Next, in a second terminal: covey device add lamp-1 --out ./lamp-1{}", data_option(data));
}

fn data_option(data: &DataDir) -> String {
    if data.path() == std::path::Path::new("covey-data") {
        String::new()
    } else {
        format!(" --data {}", data.path().display())
    }
}

/// What tells a server to stop.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn listen() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
