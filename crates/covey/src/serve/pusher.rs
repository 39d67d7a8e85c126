//! Pusher Channels, as the settings switch it on.

use std::sync::Arc;

use anyhow::Result;
use covey_core::Engine;
use covey_core::id::{OrgId, RecordNumber};
use covey_core::port::BoxFuture;
use covey_core::webhook::address::AddressRule;
use covey_gateway::pusher::config::Config;
use covey_gateway::pusher::{Answered, LiveUnits, Method, Outgoing, Parts, Pusher, ToSend, UnitList};
use covey_gateway::unit::Unit;
use covey_webhook::GuardedClient;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fault;
use crate::settings::Settings;

/// What leaves, goes where webhooks may go.
struct Guarded(Arc<GuardedClient>);

impl Outgoing for Guarded {
    fn send(&self, request: ToSend) -> BoxFuture<'static, Result<Answered, String>> {
        let client = Arc::clone(&self.0);
        Box::pin(async move {
            let ToSend { method, url, headers, body } = request;
            let method = match method {
                Method::Post => covey_webhook::Method::Post,
                Method::Put => covey_webhook::Method::Put,
            };
            let answer = client.send(method, url.as_str(), &headers, body.into()).await?;
            Ok(Answered { status: answer.status, body: answer.body.into() })
        })
    }
}

/// Makes it ready to run. `since`: the last record before units were asked what they read.
pub fn open(
    config: Config,
    settings: &Settings,
    engine: &Arc<Engine>,
    units: Option<watch::Receiver<Vec<Unit>>>,
    since: RecordNumber,
    stop: &CancellationToken,
) -> Result<Arc<Pusher>> {
    let rule = AddressRule::parse(settings.webhook_allow.iter().map(String::as_str)).map_err(fault::setup)?;
    let client = GuardedClient::new(rule.clone(), settings.webhook_ca.as_deref()).map_err(fault::setup)?;
    let parts = Parts {
        engine: Arc::clone(engine),
        config,
        outgoing: Arc::new(Guarded(Arc::new(client))),
        rule,
        units: match units {
            Some(units) => Arc::new(LiveUnits::new(units)),
            None => Arc::new(UnitList::default()),
        },
        org: OrgId(settings.nodes_org),
        ttl_minutes: settings.node_broker_ttl.into(),
        server: settings.server_name.clone(),
        since,
    };
    Ok(Pusher::new(parts, stop.clone()))
}
