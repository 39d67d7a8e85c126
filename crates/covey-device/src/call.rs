//! What a handler is given: the task, its method and parameters, and the way to report progress.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::answer::Answer;
use crate::events::{EventError, Events};

/// One call of this device.
#[derive(Debug, Clone)]
pub struct Call {
    pub(crate) sn: Arc<str>,
    pub(crate) task_id: Uuid,
    pub(crate) method_code: u16,
    pub(crate) method: Option<Box<str>>,
    pub(crate) priority: Option<u8>,
    pub(crate) expires_at: Option<u64>,
    pub(crate) payload: Bytes,
    pub(crate) partials: mpsc::Sender<Partial>,
    pub(crate) events: Events,
}

/// A partial result on its way from a handler to the connection.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) task_id: Uuid,
    pub(crate) ext_id: i64,
    pub(crate) body: Bytes,
}

impl Call {
    /// The SN of the called device (handlers may be shared by many).
    #[must_use]
    pub fn sn(&self) -> &str {
        &self.sn
    }

    /// The task's id.
    #[must_use]
    pub fn task_id(&self) -> Uuid {
        self.task_id
    }

    /// The method's code, 0 to 65,534.
    #[must_use]
    pub fn method_code(&self) -> u16 {
        self.method_code
    }

    /// The method's name, if the task has one.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// The task's priority, 0 to 9. Known from the announcement only: `None` in poll mode.
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        self.priority
    }

    /// When the task ends, in Unix seconds of the server's clock, if the server said so.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// The parameters as sent: usually JSON, `{}` when the task has none.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The parameters as a type of the handler's own.
    ///
    /// # Errors
    /// [`CallError::Payload`]; as an [`Answer`] it is 400 with the reason.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.payload).map_err(CallError::Payload)
    }

    /// The called device's events, to tell of what the call does.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Sends a partial result (status 206): the task stays open, and its lease starts anew, so a
    /// call longer than the server's lease (60 s by default) should report now and then.
    ///
    /// Returns as soon as the partial result is queued (at most 16 a device wait for the
    /// server's commit; then this waits). It is sent again until committed, also over
    /// reconnects, but it is not in the journal: a restart of the device loses it.
    ///
    /// # Errors
    /// [`CallError::Progress`] if the value is no JSON, [`CallError::Stopped`] when the device
    /// has stopped.
    pub async fn progress(&self, ext_id: i64, value: impl Serialize) -> Result<(), CallError> {
        let body = serde_json::to_vec(&value).map_err(CallError::Progress)?;
        let partial = Partial { task_id: self.task_id, ext_id, body: Bytes::from(body) };
        self.partials.send(partial).await.map_err(|_| CallError::Stopped)
    }
}

/// What can go wrong inside a handler. It turns into an [`Answer`], so `?` works in handlers
/// that return `Result<Answer, CallError>`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The parameters are not what the method takes: answered with 400.
    #[error("the parameters do not fit this method: {0}")]
    Payload(#[source] serde_json::Error),
    /// The partial result cannot be written as JSON: answered with 500.
    #[error("the partial result cannot be written as JSON: {0}")]
    Progress(#[source] serde_json::Error),
    /// The device has stopped: answered with 500 (if at all).
    #[error("the device has stopped")]
    Stopped,
    /// An event was not accepted: answered with 500.
    #[error(transparent)]
    Event(#[from] EventError),
}

impl From<CallError> for Answer {
    fn from(error: CallError) -> Self {
        let status = match error {
            CallError::Payload(_) => 400,
            CallError::Progress(_) | CallError::Stopped | CallError::Event(_) => 500,
        };
        Answer::error(status, error.to_string())
    }
}
