//! What a server does unasked: expiry, announcing, the feed, presence, looking
//! again, retention. Who expires tasks is answered here; when, by a [`Timer`]
//! that comes in from outside, so that a test can run a day in a millisecond.

use std::sync::Arc;

use crate::Engine;
use crate::error::Error;
use crate::id::DeviceKey;
use crate::node::ServersGone;
use crate::port::BoxFuture;
use crate::retention::RetentionClass;

/// One kind of work. Each goes on for as long as the server runs, beside the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Expires overdue tasks and announces again what devices took and left.
    Expiry,
    /// Announces tasks to devices that have room for them.
    Announcing,
    /// Hands records to those who follow them.
    Feed,
    /// Reads the past of the outbox for those who begin there.
    History,
    /// Tells of devices that came and went too often to be told of at once.
    Presence,
    /// Looks at devices for tasks that were never announced: their server may
    /// have died between storing and announcing them.
    LookAgain,
    /// Forgets what is too old.
    Retention,
    /// Counts what is kept.
    Quota,
    /// Looks whether limits of organisations and keys have changed.
    Limits,
    /// Counts the active devices of days that are over, and forgets what was used long ago.
    Usage,
    /// Writes what was refused into the audit log.
    Audit,
    /// Forgets what is too old of the log and the dead letters of webhooks.
    WebhookLog,
    /// Looks for servers that do not come back, and retires the passing nodes that they
    /// have left behind. Only for servers that are not alone.
    LeftBehind,
    /// Looks for ends of tasks and for revocations that other servers stored and did not tell of.
    /// Only for servers that are not alone.
    CatchUp,
}

impl Work {
    /// All work of a server that is alone.
    pub const ALONE: [Self; 12] = [
        Self::Expiry,
        Self::Announcing,
        Self::Feed,
        Self::History,
        Self::Presence,
        Self::LookAgain,
        Self::Retention,
        Self::Quota,
        Self::Limits,
        Self::Usage,
        Self::Audit,
        Self::WebhookLog,
    ];

    /// What comes to it for a server that is not alone.
    pub const WITH_PEERS: [Self; 2] = [Self::CatchUp, Self::LeftBehind];

    /// The name, for the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expiry => "expiry",
            Self::Announcing => "announcing",
            Self::Feed => "feed",
            Self::History => "history",
            Self::Presence => "presence",
            Self::LookAgain => "look again",
            Self::Retention => "retention",
            Self::Quota => "quota",
            Self::Limits => "limits",
            Self::Usage => "usage",
            Self::Audit => "audit",
            Self::WebhookLog => "webhook log",
            Self::LeftBehind => "left behind",
            Self::CatchUp => "catch up",
        }
    }
}

/// How soon is looked again whether there is room for a page of the past, in
/// milliseconds.
const HISTORY_PAUSE_MS: u64 = 20;
/// How often overdue tasks are looked for, in milliseconds: how late an expiry
/// may be told.
const EXPIRY_INTERVAL_MS: u64 = 200;
/// How often presence is looked at, in milliseconds.
const PRESENCE_INTERVAL_MS: u64 = 1_000;
/// How often a server looks whether it missed the end of a task that someone
/// waits for, or a revocation, in milliseconds.
const CATCH_UP_INTERVAL_MS: u64 = 1_000;
/// How often every device that listens is looked at, in milliseconds.
const LOOK_AGAIN_INTERVAL_MS: u64 = 10_000;
/// How often what is too old is forgotten, in milliseconds.
const RETENTION_INTERVAL_MS: u64 = 600_000;
/// The pause between two bounded amounts that are forgotten, in which others
/// can write, in milliseconds.
const RETENTION_PAUSE_MS: u64 = 200;
/// How often is looked whether what a device keeps is to be asked for, in milliseconds.
const QUOTA_INTERVAL_MS: u64 = 1_000;
/// How often is looked whether limits have changed, in milliseconds.
const LIMITS_INTERVAL_MS: u64 = 1_000;
/// How often days are looked for that are over, in milliseconds.
const USAGE_INTERVAL_MS: u64 = 600_000;
/// The pause between two bounded amounts of them, in milliseconds.
const USAGE_PAUSE_MS: u64 = 50;
/// How often what was refused is written, in milliseconds.
const AUDIT_INTERVAL_MS: u64 = 2_000;
/// How often the log of webhooks is looked at, in milliseconds.
const WEBHOOK_LOG_INTERVAL_MS: u64 = 60_000;
/// The shortest pause between two bounded amounts of it, in milliseconds.
const WEBHOOK_LOG_PAUSE_MS: u64 = 10;
/// How often is looked for servers that do not come back, in milliseconds.
const LEFT_BEHIND_INTERVAL_MS: u64 = 60_000;
/// The pause after the store has failed, in milliseconds.
const RETRY_INTERVAL_MS: u64 = 1_000;

impl Work {
    /// The pause after a failure, in milliseconds. What nobody waits for is
    /// not tried again before its time.
    const fn retry_ms(self) -> u64 {
        match self {
            Self::Retention => RETENTION_INTERVAL_MS,
            Self::Usage => USAGE_INTERVAL_MS,
            Self::WebhookLog => WEBHOOK_LOG_INTERVAL_MS,
            Self::LeftBehind => LEFT_BEHIND_INTERVAL_MS,
            _ => RETRY_INTERVAL_MS,
        }
    }
}

/// Where pauses come from, and who hears how the work goes.
pub trait Timer: Send + Sync + 'static {
    /// Ends after this many milliseconds.
    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()>;
    /// Work has failed; it is tried again.
    fn failed(&self, work: Work, error: &Error);
    /// So much was expired data deleted.
    fn forgotten(&self, kept: RetentionClass, count: u64);
}

/// How far work has come that goes on over several steps.
struct Progress {
    /// The device that was looked at last.
    after: DeviceKey,
    gone: ServersGone,
}

/// Does one kind of work for ever. To end it, drop the future.
pub async fn run(work: Work, engine: Arc<Engine>, timer: Arc<dyn Timer>) {
    let mut progress = Progress { after: DeviceKey(0), gone: ServersGone::default() };
    loop {
        let pause_ms = match step(work, &engine, &*timer, &mut progress).await {
            Ok(pause_ms) => pause_ms,
            Err(error) => {
                timer.failed(work, &error);
                work.retry_ms()
            }
        };
        if pause_ms > 0 {
            timer.sleep(pause_ms).await;
        }
    }
}

/// Does what is due now; answers after how many milliseconds to look again.
async fn step(work: Work, engine: &Engine, timer: &dyn Timer, progress: &mut Progress) -> Result<u64, Error> {
    let server = engine.server();
    let unless_more = |is_more: bool, pause_ms: u64| if is_more { 0 } else { pause_ms };
    Ok(match work {
        Work::Expiry => unless_more(server.task_sweep().await?, EXPIRY_INTERVAL_MS),
        Work::Announcing => {
            server.task_announce().await?;
            0
        }
        Work::Feed => {
            server.feed_next().await?;
            0
        }
        Work::History => unless_more(server.history_next().await, HISTORY_PAUSE_MS),
        Work::Presence => unless_more(server.presence_sweep().await?, PRESENCE_INTERVAL_MS),
        Work::LookAgain => match server.task_look_again(progress.after).await? {
            Some(next) => {
                progress.after = next;
                0
            }
            None => {
                progress.after = DeviceKey(0);
                LOOK_AGAIN_INTERVAL_MS
            }
        },
        Work::Retention => {
            let (counts, is_more) = server.prune().await?;
            for (kept, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                timer.forgotten(kept, count);
            }
            if is_more { RETENTION_PAUSE_MS } else { RETENTION_INTERVAL_MS }
        }
        Work::Quota => unless_more(server.quota_step().await?, QUOTA_INTERVAL_MS),
        Work::Limits => {
            server.limits_step().await?;
            LIMITS_INTERVAL_MS
        }
        Work::Usage => match server.usage_step().await? {
            true => USAGE_PAUSE_MS,
            false => USAGE_INTERVAL_MS,
        },
        Work::Audit => {
            server.audit_refusals_write().await?;
            AUDIT_INTERVAL_MS
        }
        Work::WebhookLog => {
            let clock = &engine.parts.clock;
            let began_us = clock.monotonic_us();
            match server.webhook_forget().await? {
                // As long as it took, so that it takes half of the time at most.
                true => (clock.monotonic_us().saturating_sub(began_us) / 1_000).max(WEBHOOK_LOG_PAUSE_MS),
                false => WEBHOOK_LOG_INTERVAL_MS,
            }
        }
        Work::LeftBehind => {
            server.nodes_left_behind(&mut progress.gone).await?;
            LEFT_BEHIND_INTERVAL_MS
        }
        Work::CatchUp => {
            server.feed_wake();
            // The one does not wait for the other to succeed; whichever failed is tried again.
            let revoked = server.revoked_look_again().await;
            server.task_catch_up().await?;
            revoked?;
            CATCH_UP_INTERVAL_MS
        }
    })
}
