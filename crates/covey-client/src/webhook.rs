//! Webhooks: where the server tells of changes, and what became of that.

use covey_api::{DeadLettersResent, SecretRotation, WebhookNew, WebhookSet, Whole};
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;

/// A webhook as the server keeps it.
pub type Webhook = covey_api::Webhook<'static>;
/// How a webhook fares.
pub type WebhookState = covey_api::WebhookState<'static>;
/// An attempt to deliver a message.
pub type Delivery = covey_api::WebhookDelivery<'static>;
/// A message that was given up.
pub type DeadLetter = covey_api::WebhookDeadLetter<'static>;
/// What became of a test.
pub type WebhookTested = covey_api::WebhookTested<'static>;

/// Which attempts are wanted.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Those after this one, oldest first; else the newest first.
    pub after: Option<i64>,
    /// Those that ended like this.
    pub outcome: Option<String>,
    /// How many at most.
    pub limit: u32,
}

impl Client {
    fn webhooks<'a>(&'a self, method: Method, path: &[&str]) -> crate::client::Request<'a> {
        self.request(method, &[&["api", "v1", "webhooks"], path].concat())
    }

    /// The webhooks of the organisation.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn webhook_list(&self) -> Result<Vec<Webhook>> {
        self.webhooks(Method::GET, &[]).send().await?.json()
    }

    /// Adds a webhook. The answer holds its secret.
    ///
    /// # Errors
    /// A refusal (400 if its URL did not pass its probe), or the transport's.
    pub async fn webhook_add(&self, request: &WebhookNew) -> Result<Webhook> {
        self.webhooks(Method::POST, &[]).json(request).send().await?.json()
    }

    /// Sets a webhook. `key` is a type, for its default webhook, or a number. The
    /// answer holds its secret if it is new.
    ///
    /// # Errors
    /// As [`webhook_add`](Self::webhook_add).
    pub async fn webhook_set(&self, key: &str, request: &WebhookSet) -> Result<Webhook> {
        self.webhooks(Method::PUT, &[key]).json(request).send().await?.json()
    }

    /// Deletes a webhook. `key` is a type, for its default webhook, or a number.
    ///
    /// # Errors
    /// A refusal (404 if there is none), or the transport's.
    pub async fn webhook_delete(&self, key: &str) -> Result<()> {
        self.webhooks(Method::DELETE, &[key]).send().await.map(drop)
    }

    /// Gives a webhook a new secret, which the answer holds.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn webhook_rotate(&self, key: &str, overlap_s: Option<u32>) -> Result<Webhook> {
        let overlap_seconds = overlap_s.map(|seconds| Whole(seconds.into()));
        let rotation = SecretRotation { overlap_seconds, ..SecretRotation::default() };
        self.webhooks(Method::POST, &[key, "rotate-secret"]).json(&rotation).send().await?.json()
    }

    /// Sends a sample to a webhook.
    ///
    /// # Errors
    /// A refusal, or the transport's; not what the receiver answered.
    pub async fn webhook_test(&self, key: &str) -> Result<WebhookTested> {
        self.webhooks(Method::POST, &[key, "test"]).send().await?.json()
    }

    /// The log of a webhook.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn webhook_deliveries(&self, key: &str, filter: &DeliveryFilter) -> Result<Vec<Delivery>> {
        let request = self.webhooks(Method::GET, &[key, "deliveries"]).query("limit", filter.limit);
        let request = request.query_if("after", filter.after);
        request.query_if("outcome", filter.outcome.as_ref()).send().await?.json()
    }

    /// The dead letters of a webhook, newest first, those before a number.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn webhook_dead_letters(
        &self,
        key: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>> {
        let request = self.webhooks(Method::GET, &[key, "dead-letters"]).query("limit", limit);
        request.query_if("before", before).send().await?.json()
    }

    /// Sends one dead letter again, or all; answers how many.
    ///
    /// # Errors
    /// A refusal (404 if there is none of that number), or the transport's.
    pub async fn webhook_resend(&self, key: &str, number: Option<i64>) -> Result<u64> {
        let number = number.map(|number| number.to_string());
        let path = match &number {
            Some(number) => vec![key, "dead-letters", number, "resend"],
            None => vec![key, "dead-letters", "resend"],
        };
        let resent: DeadLettersResent = self.webhooks(Method::POST, &path).send().await?.json()?;
        Ok(resent.resent)
    }
}
