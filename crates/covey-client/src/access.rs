//! Who may do what.

use reqwest::Method;

use crate::client::Client;
use crate::error::Result;

/// Why a key may do something, or may not.
pub type AccessExplanation = covey_api::AccessExplanation<'static>;

/// What is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessQuestion {
    /// The operation, such as `POST /device-tasks`.
    pub operation: String,
    /// The number of the key; that of the client if left out.
    pub key_id: Option<i64>,
    /// The device that it would be about.
    pub device_id: Option<i64>,
    /// Of a task, the number of its method.
    pub method_code: Option<u16>,
    /// Of a task, the name of its method.
    pub method: Option<String>,
    /// Of an event, its type.
    pub event_type_code: Option<i64>,
}

impl Client {
    /// Why a key may do something, or may not. Nothing is done.
    ///
    /// # Errors
    /// A refusal (404 for a key or a device that there is not), or the transport's.
    pub async fn access_explain(&self, question: &AccessQuestion) -> Result<AccessExplanation> {
        self.request(Method::GET, &["api", "v1", "access", "explain"])
            .query_if("operation", Some(&question.operation))
            .query_if("key_id", question.key_id)
            .query_if("device_id", question.device_id)
            .query_if("method_code", question.method_code)
            .query_if("method", question.method.as_ref())
            .query_if("event_type_code", question.event_type_code)
            .send()
            .await?
            .json()
    }
}
