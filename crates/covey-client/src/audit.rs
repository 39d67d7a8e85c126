//! The audit log: who did what.

use reqwest::Method;

use crate::client::Client;
use crate::error::Result;

/// One thing that was done, or refused.
pub type AuditEntry = covey_api::AuditEntry<'static>;
/// Entries, newest first.
pub type AuditPage = covey_api::AuditPage<'static>;
/// A chain of rows.
pub type AuditChain = covey_api::AuditChain<'static>;
/// A row of a chain.
pub type AuditRow = covey_api::AuditRow<'static>;

/// Which entries are wanted; all, if nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Those from this instant on, as RFC 3339 has it.
    pub since: Option<String>,
    /// Those before this instant.
    pub until: Option<String>,
    /// Those of a credential: its name, its kind, or both its kind and number (`key 7`).
    pub actor: Option<String>,
    /// Those of this action, or of all that begin so.
    pub action: Option<String>,
    /// Those with this device.
    pub device: Option<String>,
    /// Those with this thing, or with all of this kind.
    pub object: Option<String>,
    /// Those that were `done` or `refused`.
    pub outcome: Option<String>,
    /// Those that have this text.
    pub text: Option<String>,
    /// Whether those of all organisations are wanted.
    pub all: bool,
}

const AUDIT: [&str; 3] = ["api", "v1", "audit"];

impl Client {
    /// Entries of the audit log, newest first: those behind a cursor, if there is one.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn audit_list(
        &self,
        filter: &AuditFilter,
        cursor: Option<&str>,
        size: u32,
    ) -> Result<AuditPage> {
        self.request(Method::GET, &AUDIT)
            .query_if("since", filter.since.as_ref())
            .query_if("until", filter.until.as_ref())
            .query_if("actor", filter.actor.as_ref())
            .query_if("action", filter.action.as_ref())
            .query_if("device", filter.device.as_ref())
            .query_if("object", filter.object.as_ref())
            .query_if("outcome", filter.outcome.as_ref())
            .query_if("text", filter.text.as_ref())
            .query_if("all", filter.all.then_some(true))
            .query_if("cursor", cursor)
            .query("size", size)
            .send()
            .await?
            .json()
    }

    /// The chains of the audit log.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn audit_chains(&self) -> Result<Vec<AuditChain>> {
        let chains: covey_api::AuditChains<'static> =
            self.request(Method::GET, &["api", "v1", "audit", "chains"]).send().await?.json()?;
        Ok(chains.items)
    }

    /// Rows of a chain behind a number; none if there are no more.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn audit_rows(&self, chain: i64, after: i64) -> Result<Vec<AuditRow>> {
        let request = self.request(Method::GET, &["api", "v1", "audit", "rows"]);
        let rows: covey_api::AuditRows<'static> =
            request.query("chain", chain).query("after", after).send().await?.json()?;
        Ok(rows.items)
    }
}
