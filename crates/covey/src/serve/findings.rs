//! What is wrong around this server: it looks by itself, every few seconds, so that whoever asks gets an answer at once
//! and nobody makes it look more often.

use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use covey_core::finding::{Board, Finding, Report};
use covey_core::id::UnixMs;
use covey_core::port::{Clock, Link};
use covey_doctor::clock::Offset;
use covey_doctor::{parts, webhooks};
use covey_store::sqlite;
use tokio::time::timeout;

use crate::doctor::{HadCa, Surroundings, whole};
use crate::serve::parts::SystemClock;
use crate::settings::{SQLITE, Settings};

/// How often the server looks. A look reads some twenty small files and of the store the webhooks that are in trouble.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How long the store is waited for.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// What looks, and where it puts up what it found.
pub struct Watch {
    pub surroundings: Surroundings,
    pub engine: Arc<Engine>,
    /// The link that the settings name.
    pub link: Arc<dyn Link>,
    pub board: Arc<Board>,
    pub settings: Settings,
}

impl Watch {
    /// Looks until it is dropped.
    pub async fn run(self) {
        let mut of_webhooks = Vec::new();
        let clock = SystemClock::start();
        self.board.begin(clock.now());
        loop {
            self.look(&clock, &mut of_webhooks).await;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Looks once. Without a store webhooks are as they were known last. A disk that does not answer is waited for, which
    /// whoever asks is told of (`look_stale`).
    async fn look(&self, own: &SystemClock, of_webhooks: &mut Vec<Finding>) {
        let at = own.now();
        let surroundings = self.surroundings.clone();
        let looked = tokio::task::spawn_blocking(move || surroundings.look(at.seconds(), HadCa::Yes)).await;
        let Ok((mut found, mut measures)) = looked else { return };

        let health = self.engine.server().health();
        let (place, broker) = (place(&self.settings), self.settings.link.to_string());
        let problem = self.link.problem();
        found.extend(parts::findings(
            &health,
            &whole(&self.settings.data),
            &place,
            &broker,
            problem.as_deref(),
        ));

        let of_database = self.engine.now().0.saturating_sub(own.now().0);
        let of_broker = self.link.clock_ahead_ms();
        let clocks = [("database", Some((of_database, 0))), ("broker", of_broker)];
        for (name, ahead_ms, error_ms) in
            clocks.into_iter().filter_map(|(name, told)| Some((name, told?.0, told?.1)))
        {
            let offset = Offset { ours: "this server", other: &format!("the {name}"), ahead_ms, error_ms };
            found.extend(offset.finding());
            #[allow(clippy::cast_precision_loss)] // far below 2^53 milliseconds
            measures.clock_offsets_s.push((name, ahead_ms as f64 / 1_000.0));
        }

        let troubles = timeout(STORE_TIMEOUT, self.engine.server().webhook_troubles_of_every_org()).await;
        if let Ok(Ok(troubles)) = troubles {
            *of_webhooks = webhooks::findings(&troubles, self.engine.now());
        }
        found.extend(of_webhooks.iter().cloned());
        self.board.put_up(Report::new(UnixMs(at.0), found, measures));
    }
}

/// Where the store is.
pub fn place(settings: &Settings) -> String {
    match settings.store.scheme() {
        SQLITE => sqlite::file_in(&whole(&settings.data)).display().to_string(),
        _ => settings.store.to_string(),
    }
}
