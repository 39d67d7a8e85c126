//! Webhooks: where the server tells of changes, and what became of that.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::client::Client;
use crate::error::Result;

/// Which changes a webhook wants; each list that is empty lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookFilter {
    /// Of devices with these numbers.
    pub device_id: Vec<i64>,
    /// Of devices with one of these tags: `name`, or `name:value`.
    pub tag: Vec<String>,
    /// Of events, of these types.
    pub event_type_code: Vec<i64>,
}

/// A webhook that is wanted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WebhookRequest {
    /// What it is told of, such as `msg-event`.
    pub event_type: String,
    /// Where it is.
    pub url: String,
    /// What is sent with each message.
    pub headers: BTreeMap<String, String>,
    /// Whether it is told anything.
    pub is_active: bool,
    /// Which changes it wants.
    pub filter: WebhookFilter,
    /// In which form: `contract` or `cloudevents`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// How many requests may be under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Its secret; the server makes one if none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// A webhook as the server keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Its number.
    pub id: i64,
    /// What it is told of.
    pub event_type: String,
    /// Whether it is the one that its type names.
    #[serde(default)]
    pub is_default: bool,
    /// Where it is.
    pub url: String,
    /// What is sent with each message.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether it is told anything.
    pub is_active: bool,
    /// Which changes it wants.
    #[serde(default)]
    pub filter: WebhookFilter,
    /// In which form.
    #[serde(default)]
    pub format: String,
    /// How many requests may be under way at once.
    #[serde(default)]
    pub concurrency: u32,
    /// When it was made, in RFC 3339.
    #[serde(default)]
    pub created_at: Option<String>,
    /// Its secret, when it was just made and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How it fares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<WebhookState>,
}

/// How a webhook fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookState {
    /// `closed`, or `open` if there are only probes.
    pub circuit: String,
    /// Since when it is open, in RFC 3339.
    #[serde(default)]
    pub open_since: Option<String>,
    /// What the last failure was.
    #[serde(default)]
    pub last_error: Option<String>,
    /// When a message was last delivered, in RFC 3339.
    #[serde(default)]
    pub last_delivered_at: Option<String>,
    /// Up to this change everything is settled.
    #[serde(default)]
    pub position: i64,
    /// The newest change.
    #[serde(default)]
    pub head: i64,
    /// How many messages wait for another try.
    #[serde(default)]
    pub waiting: u64,
    /// How many messages were given up.
    #[serde(default)]
    pub dead: u64,
}

/// An attempt to deliver a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its number in the log.
    pub id: i64,
    /// The number of the change; none of a test.
    pub number: Option<i64>,
    /// The device's number; none of a test.
    pub device_id: Option<i64>,
    /// Which try it was.
    pub attempt: u32,
    /// When it began, in RFC 3339.
    pub at: String,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
    /// What became of it.
    pub outcome: String,
}

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

/// A message that was given up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The number of the change.
    pub number: i64,
    /// The device's number.
    pub device_id: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// The status of the last answer, if there was one.
    pub last_status: Option<u16>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it was given up, in RFC 3339.
    pub died_at: String,
    /// The change; none if it has been forgotten.
    pub record: Option<Box<RawValue>>,
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookTested {
    /// Whether the receiver answered 2xx.
    pub delivered: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
}

#[derive(Deserialize)]
struct Resent {
    resent: u64,
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
    pub async fn webhook_add(&self, request: &WebhookRequest) -> Result<Webhook> {
        self.webhooks(Method::POST, &[]).json(request).send().await?.json()
    }

    /// Sets the default webhook of the request's type. The answer holds its
    /// secret if it is new.
    ///
    /// # Errors
    /// As [`webhook_add`](Self::webhook_add).
    pub async fn webhook_set_default(&self, request: &WebhookRequest) -> Result<Webhook> {
        self.webhooks(Method::PUT, &[&request.event_type]).json(request).send().await?.json()
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
        #[derive(Serialize)]
        struct Rotation {
            #[serde(skip_serializing_if = "Option::is_none")]
            overlap_seconds: Option<u32>,
        }
        let rotation = Rotation { overlap_seconds: overlap_s };
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
        let resent: Resent = self.webhooks(Method::POST, &path).send().await?.json()?;
        Ok(resent.resent)
    }
}
