//! The device's side of its twin: what an application wants a resource to be comes as a call of
//! the method `twin.set`, and what the resource is then goes back as an event.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::Answer;
use crate::call::{Call, CallError};

/// The method's name.
pub(crate) const SET: &str = "twin.set";

type AppliedFuture = Pin<Box<dyn Future<Output = Applied> + Send>>;
pub(crate) type DesiredHandler = Arc<dyn Fn(Desired) -> AppliedFuture + Send + Sync>;

/// A value that an application wants a resource of this device to have.
#[derive(Debug)]
pub struct Desired {
    call: Call,
    resource: Box<str>,
    value: Value,
    version: u64,
}

impl Desired {
    /// The call that brought it, with the SN and the way to tell of events.
    #[must_use]
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// The resource's name.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The wanted value.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Ascends with each wish for this resource.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The wanted value as a type of the handler's own.
    ///
    /// # Errors
    /// [`CallError::Payload`]; passed on with `?` it is answered with 400.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        T::deserialize(&self.value).map_err(CallError::Payload)
    }
}

/// What a handler of a desired value has done. `()` and `Ok(())` become "as desired"; a
/// [`Value`] is what the resource has become instead; an error becomes the answer that it is for
/// any call.
#[derive(Debug)]
pub struct Applied(Result<Option<Value>, Answer>);

impl Applied {
    /// The resource is as it was wanted.
    #[must_use]
    pub fn as_desired() -> Self {
        Self(Ok(None))
    }

    /// The resource has become this instead, such as the nearest value that is possible.
    #[must_use]
    pub fn instead(value: Value) -> Self {
        Self(Ok(Some(value)))
    }

    /// The resource has not changed: answered with this status code (400 or more) and
    /// `{"error": text}`.
    #[must_use]
    pub fn refused(status: u16, text: impl AsRef<str>) -> Self {
        Self(Err(Answer::error(status.max(400), text)))
    }
}

impl From<()> for Applied {
    fn from((): ()) -> Self {
        Self::as_desired()
    }
}

impl From<Value> for Applied {
    fn from(value: Value) -> Self {
        Self::instead(value)
    }
}

impl<T: Into<Applied>, E: Into<Answer>> From<Result<T, E>> for Applied {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(applied) => applied.into(),
            Err(error) => Self(Err(error.into())),
        }
    }
}

pub(crate) fn boxed<F, R>(handler: F) -> DesiredHandler
where
    F: Fn(Desired) -> R + Send + Sync + 'static,
    R: Future<Output: Into<Applied>> + Send + 'static,
{
    Arc::new(move |desired| {
        let applied = handler(desired);
        Box::pin(async move { applied.await.into() })
    })
}

#[derive(Deserialize)]
struct Payload {
    resource: Box<str>,
    // Required, though it may be null.
    #[serde(deserialize_with = "Value::deserialize")]
    value: Value,
    #[serde(default)]
    version: u64,
}

#[derive(Serialize)]
struct Set<'a> {
    resource: &'a str,
    value: &'a Value,
    version: u64,
}

/// Runs the handler of the resource, reports what the resource is then, and answers 200. A
/// value that cannot be reported is set all the same; the answer carries it too.
pub(crate) async fn set(call: Call, find: impl FnOnce(&str) -> Option<DesiredHandler>) -> Answer {
    let Payload { resource, value, version } = match call.json() {
        Ok(payload) => payload,
        Err(error) => return error.into(),
    };
    let Some(handler) = find(&resource) else {
        return Answer::error(404, format!("this device has no resource {resource:?}"));
    };
    let events = call.events().clone();
    let applied = handler(Desired { call, resource: resource.clone(), value: value.clone(), version }).await;
    let value = match applied.0 {
        Ok(instead) => instead.unwrap_or(value),
        Err(answer) => return answer,
    };
    if let Err(error) = events.report(&resource, &value).send().await {
        tracing::warn!(resource, %error, "value set but not reported");
    }
    Answer::ok(Set { resource: &resource, value: &value, version })
}
