//! Which endpoints this server tells: it takes hold of them, runs one task for
//! each, and lets go of them at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use covey_core::Engine;
use covey_core::webhook::{Claim, EndpointId, HeldEndpoint};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::runner::Runner;
use crate::sender::HttpSender;
use crate::share::Share;

/// How often is looked for endpoints, if nothing says earlier that there are new ones.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// A task that tells one endpoint.
struct Running {
    version: i64,
    resends: watch::Sender<i64>,
    stop: CancellationToken,
}

/// Tells the endpoints that this server holds, until stopped. `server` is its
/// name among the servers of its deployment.
pub async fn run(engine: Arc<Engine>, sender: Arc<HttpSender>, server: String, stop: CancellationToken) {
    // The sign takes nothing from what tells two runs apart.
    let nonce = i64::from_ne_bytes(rand::random());
    let claim = Claim { server, nonce };
    let (running, tasks, held_bytes) = (BTreeMap::new(), JoinSet::new(), Arc::default());
    let mut supervisor = Supervisor { engine, sender, claim, running, tasks, held_bytes };
    supervisor.run(stop).await;
}

struct Supervisor {
    engine: Arc<Engine>,
    sender: Arc<HttpSender>,
    claim: Claim,
    running: BTreeMap<EndpointId, Running>,
    tasks: JoinSet<EndpointId>,
    /// How many bytes of changes wait in all tasks.
    held_bytes: Arc<AtomicUsize>,
}

impl Supervisor {
    async fn run(&mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let changes = self.sender.changes();
            if self.look().await {
                self.sender.take_up(Some(changes));
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.sender.endpoints_changed() => {}
                Some(ended) = self.tasks.join_next() => self.ended(ended.ok()),
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
        self.sender.take_up(None);
        self.running.values().for_each(|running| running.stop.cancel());
        while self.tasks.join_next().await.is_some() {}
        if let Err(error) = self.engine.server().webhook_release(self.claim.clone()).await {
            tracing::info!(%error, "webhooks not released; other servers take them over when the claim expires");
        }
    }

    /// Takes hold of endpoints, and sees to it that those that are held are told, and not as they were before they
    /// were changed. Answers whether it could look.
    async fn look(&mut self) -> bool {
        let is_known = |id: EndpointId, version: i64| {
            self.running.get(&id).is_some_and(|running| running.version == version)
        };
        let (ids, held) = match self
            .engine
            .server()
            .webhook_claim(&self.claim, |one| is_known(one.id, one.version))
            .await
        {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "webhooks not read from the store; retrying");
                return false;
            }
        };
        for (id, running) in &self.running {
            match ids.iter().find(|(held, _)| held == id) {
                None => running.stop.cancel(),
                Some((_, resends)) => {
                    running.resends.send_if_modified(|known| std::mem::replace(known, *resends) != *resends);
                }
            }
        }
        for held in held {
            match self.running.get(&held.id()) {
                // It was changed: once it has ended, it is begun anew.
                Some(running) => running.stop.cancel(),
                None => self.begin(held),
            }
        }
        true
    }

    fn begin(&mut self, held: HeldEndpoint) {
        let (id, version) = (held.id(), held.endpoint.version);
        let (resends, seen) = watch::channel(held.resends);
        let stop = CancellationToken::new();
        let spec = &held.endpoint.spec;
        tracing::info!(
            webhook = id.0,
            event_type = spec.webhook_type.name(),
            url = spec.url.shown(),
            "telling"
        );
        let (engine, sender) = (Arc::clone(&self.engine), Arc::clone(&self.sender));
        let share = Share::of(Arc::clone(&self.held_bytes));
        let runner = Runner::new(engine, sender, self.claim.clone(), held, share, seen, stop.clone());
        self.tasks.spawn(async move {
            runner.run().await;
            id
        });
        self.running.insert(id, Running { version, resends, stop });
    }

    fn ended(&mut self, id: Option<EndpointId>) {
        match id {
            Some(id) => {
                self.running.remove(&id);
            }
            None => {
                tracing::error!("webhook task panicked; restarting all webhooks");
                self.running.values().for_each(|running| running.stop.cancel());
                self.running.clear();
                self.tasks.detach_all();
            }
        }
    }
}
