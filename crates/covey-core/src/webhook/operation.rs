//! Operations on webhooks.

use std::sync::Arc;

use crate::access::Caller;
use crate::audit::{AuditAction, AuditEntry};
use crate::engine::after_commit::AfterCommit;
use crate::error::Error;
use crate::id::{OrgId, RecordNumber, UnixMs};
use crate::operation::{Abort, Operation};
use crate::port::{Need, Room, Transaction, Turn};
use crate::webhook::{
    AttemptLog, Claim, ENDPOINTS_MAX, Endpoint, EndpointId, EndpointRef, EndpointSpec, Progress,
    ProgressSaved, WebhookSecret,
};

/// How long a server holds an endpoint after its last sign of life, in milliseconds.
pub const CLAIM_MS: i64 = 15_000;

/// The endpoint that a caller means.
fn found(tx: &mut dyn Transaction, org: OrgId, wanted: EndpointRef) -> Result<Endpoint, Abort> {
    let found = match wanted {
        EndpointRef::Default(webhook_type) => tx.webhook_default(org, webhook_type)?,
        EndpointRef::Id(id) => tx.webhook(org, id)?,
    };
    Ok(found.ok_or(Error::not_found("webhook"))?)
}

/// What the audit log is told of an endpoint: of its URL the origin alone, and nothing of its headers and secrets.
fn webhook_entry(caller: &Caller, action: AuditAction, endpoint: &Endpoint) -> AuditEntry {
    let entry = AuditEntry::of(caller, action, format!("webhook {}", endpoint.id.0));
    let EndpointSpec { webhook_type, url, is_active, .. } = &endpoint.spec;
    let active = if *is_active { "true" } else { "false" };
    entry.detail("event_type", webhook_type.name()).detail("url", url.shown()).detail("is_active", active)
}

/// What was read in a transaction just now is there.
fn there(endpoint: Option<Endpoint>) -> Result<Endpoint, Abort> {
    Ok(endpoint.ok_or(Error::not_found("webhook"))?)
}

/// An endpoint after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedEndpoint {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Whether it was made.
    pub is_new: bool,
}

/// Adds an endpoint.
pub struct WebhookAdd {
    /// Who asks.
    pub caller: Caller,
    /// What is asked for, validated.
    pub spec: EndpointSpec,
    /// Its secret.
    pub secret: WebhookSecret,
}

impl Operation for WebhookAdd {
    type Output = ChangedEndpoint;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<ChangedEndpoint, Abort> {
        if tx.webhook_count(self.caller.org)? >= ENDPOINTS_MAX {
            return Err(Error::Exhausted { limit: "an organisation may have at most 100 webhooks" }.into());
        }
        let id = tx.webhook_insert(self.caller.org, &self.spec, &self.secret, false)?;
        Ok(ChangedEndpoint { endpoint: there(tx.webhook(self.caller.org, id)?)?, is_new: true })
    }

    fn entries(&self, added: &ChangedEndpoint) -> Vec<AuditEntry> {
        vec![webhook_entry(&self.caller, AuditAction::WebhookAdd, &added.endpoint)]
    }
}

/// Sets an endpoint: the one of a type, which is made if there is none, or one
/// that is there.
pub struct WebhookSet {
    /// Who asks.
    pub caller: Caller,
    /// Which one.
    pub wanted: EndpointRef,
    /// What is asked for, validated.
    pub spec: EndpointSpec,
    /// The version from which `spec` was made; a change in between is a conflict.
    pub version: Option<i64>,
    /// A secret, if it is to be set; for one that is made, its secret.
    pub secret: WebhookSecret,
    /// Whether the caller gave the secret.
    pub is_secret_given: bool,
    /// How much room there is.
    pub room: Room,
    /// Who knows how much the organisation keeps.
    pub(crate) after_commit: Arc<AfterCommit>,
}

impl Operation for WebhookSet {
    type Output = ChangedEndpoint;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<ChangedEndpoint, Abort> {
        let known = match found(tx, self.caller.org, self.wanted) {
            Ok(known) => Some(known),
            Err(Abort::Refused(Error::NotFound { .. })) => None,
            Err(other) => return Err(other),
        };
        let Some(mut endpoint) = known else {
            let (EndpointRef::Default(_), None) = (self.wanted, self.version) else {
                return Err(Error::not_found("webhook").into());
            };
            if let Some(fault) = self.room.refuses(Need::New) {
                return Err(Error::from(fault).into());
            }
            self.after_commit.demand_quota(self.caller.org, None)?;
            if tx.webhook_count(self.caller.org)? >= ENDPOINTS_MAX {
                return Err(
                    Error::Exhausted { limit: "an organisation may have at most 100 webhooks" }.into()
                );
            }
            let id = tx.webhook_insert(self.caller.org, &self.spec, &self.secret, true)?;
            return Ok(ChangedEndpoint { endpoint: there(tx.webhook(self.caller.org, id)?)?, is_new: true });
        };
        if self.version != Some(endpoint.version) {
            return Err(Error::Conflict { problem: "the webhook was changed at the same time" }.into());
        }
        if endpoint.spec.webhook_type != self.spec.webhook_type {
            return Err(Error::contradiction("event_type", "cannot be changed: add another webhook").into());
        }
        let begins_anew = self.spec.is_active && !endpoint.spec.is_active;
        endpoint.spec = self.spec.clone();
        if self.is_secret_given {
            endpoint.secret = self.secret.clone();
            endpoint.old_secret = None;
        }
        tx.webhook_update(&endpoint, begins_anew)?;
        Ok(ChangedEndpoint { endpoint: there(tx.webhook(self.caller.org, endpoint.id)?)?, is_new: false })
    }

    fn entries(&self, changed: &ChangedEndpoint) -> Vec<AuditEntry> {
        let action = if changed.is_new { AuditAction::WebhookAdd } else { AuditAction::WebhookSet };
        let entry = webhook_entry(&self.caller, action, &changed.endpoint);
        vec![if self.is_secret_given { entry.detail("secret", "set") } else { entry }]
    }
}

/// Removes an endpoint with all that is kept of it.
pub struct WebhookDelete {
    /// Who asks.
    pub caller: Caller,
    /// Which one.
    pub wanted: EndpointRef,
}

impl Operation for WebhookDelete {
    /// The endpoint, as it was.
    type Output = Endpoint;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Endpoint, Abort> {
        let endpoint = found(tx, self.caller.org, self.wanted)?;
        tx.webhook_delete(self.caller.org, endpoint.id)?;
        Ok(endpoint)
    }

    fn entries(&self, endpoint: &Endpoint) -> Vec<AuditEntry> {
        vec![webhook_entry(&self.caller, AuditAction::WebhookDelete, endpoint)]
    }
}

/// Gives an endpoint a new secret; the one that it had stays valid for a while.
pub struct WebhookRotate {
    /// Who asks.
    pub caller: Caller,
    /// Which one.
    pub wanted: EndpointRef,
    /// The new secret.
    pub secret: WebhookSecret,
    /// How long the old one is valid beside it, in milliseconds.
    pub overlap_ms: i64,
}

impl Operation for WebhookRotate {
    type Output = Endpoint;

    // It shuts out whoever knows the old secret.
    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::ShutOut(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Endpoint, Abort> {
        let mut endpoint = found(tx, self.caller.org, self.wanted)?;
        let old = std::mem::replace(&mut endpoint.secret, self.secret.clone());
        let until = tx.now().plus_ms(self.overlap_ms);
        endpoint.old_secret = (self.overlap_ms > 0).then_some((old, until));
        tx.webhook_update(&endpoint, false)?;
        there(tx.webhook(self.caller.org, endpoint.id)?)
    }

    fn entries(&self, endpoint: &Endpoint) -> Vec<AuditEntry> {
        vec![webhook_entry(&self.caller, AuditAction::WebhookRotate, endpoint)]
    }
}

/// Puts dead letters back for another try.
pub struct WebhookResend {
    /// Who asks.
    pub caller: Caller,
    /// Of which endpoint.
    pub wanted: EndpointRef,
    /// One of them, or all.
    pub number: Option<RecordNumber>,
    /// For how long they are tried, in milliseconds.
    pub retry_ms: i64,
    /// How many at most.
    pub limit: u32,
}

impl Operation for WebhookResend {
    /// How many, and of which endpoint.
    type Output = (u64, Endpoint);

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(u64, Endpoint), Abort> {
        let endpoint = found(tx, self.caller.org, self.wanted)?;
        let deadline = tx.now().plus_ms(self.retry_ms);
        let count = tx.webhook_resend(endpoint.id, self.number, deadline, self.limit)?;
        if self.number.is_some() && count == 0 {
            return Err(Error::not_found("dead letter").into());
        }
        Ok((count, endpoint))
    }

    fn entries(&self, (count, endpoint): &(u64, Endpoint)) -> Vec<AuditEntry> {
        let entry = webhook_entry(&self.caller, AuditAction::WebhookResend, endpoint);
        let number = self.number.map_or_else(|| "all".to_owned(), |number| number.0.to_string());
        vec![entry.detail("dead_letter", &number).detail("put_back", &count.to_string())]
    }
}

/// Writes a test into the log.
pub struct WebhookLog {
    /// Who has asked for it.
    pub caller: Caller,
    /// Of which endpoint.
    pub endpoint: Arc<Endpoint>,
    /// What became of it.
    pub attempt: AttemptLog,
}

impl Operation for WebhookLog {
    type Output = ();

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        Ok(tx.webhook_log(self.endpoint.id, &self.attempt)?)
    }

    fn entries(&self, (): &()) -> Vec<AuditEntry> {
        let entry = webhook_entry(&self.caller, AuditAction::WebhookTest, &self.endpoint);
        vec![entry.detail("test", self.attempt.outcome.name())]
    }
}

/// A server takes or renews hold of endpoints.
pub struct WebhookClaim {
    /// Who.
    pub claim: Claim,
    /// Which ones.
    pub ids: Vec<EndpointId>,
}

impl Operation for WebhookClaim {
    type Output = ();

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        let until = tx.now().plus_ms(CLAIM_MS);
        Ok(tx.webhook_claim(&self.claim, &self.ids, until)?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// A server lets go of all endpoints that it holds.
pub struct WebhookRelease {
    /// Who.
    pub claim: Claim,
}

impl Operation for WebhookRelease {
    type Output = ();

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        Ok(tx.webhook_release(&self.claim)?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// A server writes what it did for an endpoint, and renews its hold.
pub struct WebhookProgress {
    /// Who.
    pub claim: Claim,
    /// For which endpoint.
    pub id: EndpointId,
    /// What it did.
    pub progress: std::sync::Arc<Progress>,
}

impl Operation for WebhookProgress {
    type Output = ProgressSaved;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<ProgressSaved, Abort> {
        let until = tx.now().plus_ms(CLAIM_MS);
        Ok(tx.webhook_progress(&self.claim, self.id, until, &self.progress)?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Forgets what is too old.
pub struct WebhookForget {
    /// What was logged before this instant.
    pub logged: UnixMs,
    /// The deliveries that died before this instant.
    pub died: UnixMs,
    /// How many rows of each at most.
    pub limit: u32,
}

impl Operation for WebhookForget {
    type Output = u64;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<u64, Abort> {
        Ok(tx.webhook_forget(self.logged, self.died, self.limit)?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}
