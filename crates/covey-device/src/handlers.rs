//! Which handler answers which method. One table may serve many devices.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::json;

use crate::answer::Answer;
use crate::call::Call;
use crate::twin::{self, Applied, Desired, DesiredHandler};

type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Handler = Arc<dyn Fn(Call) -> AnswerFuture + Send + Sync>;

/// The methods of a device. A registered name goes before a registered code, and both before
/// the fallback; a call that nothing takes is answered with 501
/// `{"error": "unknown method", "method_code": …, "method": …}`.
///
/// Handlers run on the device's own task: one that computes for long or blocks must use
/// [`tokio::task::spawn_blocking`], or the connection stands still meanwhile. A handler that
/// panics is answered with 500 `{"error": "the handler panicked"}`.
#[derive(Default, Clone)]
pub struct Handlers {
    by_code: HashMap<u16, Handler>,
    by_name: HashMap<Box<str>, Handler>,
    by_resource: HashMap<Box<str>, DesiredHandler>,
    fallback: Option<Handler>,
}

impl Handlers {
    /// A table without methods.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers a method code (0 to 65,534). A later registration replaces an earlier one.
    #[must_use]
    pub fn on<F, R>(mut self, method_code: u16, handler: F) -> Self
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Answer>> + Send + 'static,
    {
        self.by_code.insert(method_code, boxed(handler));
        self
    }

    /// Answers a method name.
    #[must_use]
    pub fn on_method<F, R>(mut self, name: &str, handler: F) -> Self
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Answer>> + Send + 'static,
    {
        self.by_name.insert(Box::from(name), boxed(handler));
        self
    }

    /// Sets a resource of the device's twin to what an application wants. When the handler is
    /// done, the value is [reported](crate::Events::report) and the call answered with 200
    /// `{"resource", "value", "version"}`. A resource without a handler is answered with 404.
    ///
    /// ```
    /// use covey_device::{CallError, Desired, Handlers};
    ///
    /// let handlers = Handlers::new().on_desired("led", |desired: Desired| async move {
    ///     let on: u8 = desired.json()?;
    ///     println!("the led is {on} now");
    ///     Ok::<_, CallError>(())
    /// });
    /// ```
    #[must_use]
    pub fn on_desired<F, R>(mut self, resource: &str, handler: F) -> Self
    where
        F: Fn(Desired) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Applied>> + Send + 'static,
    {
        self.by_resource.insert(Box::from(resource), twin::boxed(handler));
        self
    }

    /// Answers whatever no other handler takes.
    #[must_use]
    pub fn fallback<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output: Into<Answer>> + Send + 'static,
    {
        self.fallback = Some(boxed(handler));
        self
    }

    /// Runs the handler of a call to its answer; never panics.
    pub(crate) async fn answer(&self, call: Call) -> Answer {
        let task_id = call.task_id();
        match AssertUnwindSafe(self.run(call)).catch_unwind().await {
            Ok(answer) => answer,
            Err(_) => {
                tracing::error!(%task_id, "handler panicked; answering 500");
                Answer::error(500, "the handler panicked")
            }
        }
    }

    async fn run(&self, call: Call) -> Answer {
        let by_name = call.method().and_then(|name| self.by_name.get(name));
        let is_twins = call.method() == Some(twin::SET) && !self.by_resource.is_empty();
        if by_name.is_none() && is_twins {
            return twin::set(call, |resource| self.by_resource.get(resource).cloned()).await;
        }
        let handler = by_name.or_else(|| self.by_code.get(&call.method_code())).or(self.fallback.as_ref());
        match handler {
            Some(handler) => handler(call).await,
            None => {
                let method_code = call.method_code();
                let body = json!({
                    "error": "unknown method",
                    "method_code": method_code,
                    "method": call.method(),
                });
                Answer::ok(body).with_status(501)
            }
        }
    }
}

fn boxed<F, R>(handler: F) -> Handler
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output: Into<Answer>> + Send + 'static,
{
    Arc::new(move |call| {
        let answer = handler(call);
        Box::pin(async move { answer.await.into() })
    })
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers")
            .field("codes", &self.by_code.len())
            .field("names", &self.by_name.len())
            .field("resources", &self.by_resource.len())
            .field("fallback", &self.fallback.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::call::CallError;
    use crate::events::{Bounds, EventSettings, Events};
    use crate::status::Counters;
    use bytes::Bytes;
    use tokio::sync::mpsc;
    use uuid::Uuid;

    fn call(method_code: u16, method: Option<&str>, payload: &'static [u8]) -> Call {
        Call {
            sn: Arc::from("lamp-1"),
            task_id: Uuid::from_u128(1),
            method_code,
            method: method.map(Box::from),
            priority: None,
            expires_at: None,
            payload: Bytes::from_static(payload),
            partials: mpsc::channel(1).0,
            events: Events::in_memory(
                Bounds { entries_max: 2, bytes_max: 1024 },
                EventSettings::default(),
                Counters::default(),
            ),
        }
    }

    #[tokio::test]
    async fn a_name_goes_before_a_code_and_both_before_the_fallback() {
        let handlers = Handlers::new()
            .on(51, |_| async { Answer::text("code") })
            .on_method("blink", |_| async { Answer::text("name") });
        let body = async |handlers: &Handlers, code, name| handlers.answer(call(code, name, b"{}")).await;
        assert_eq!(body(&handlers, 51, Some("blink")).await.body(), b"name");
        assert_eq!(body(&handlers, 51, Some("other")).await.body(), b"code");
        assert_eq!(body(&handlers, 52, None).await.status(), 501);
        let handlers = handlers.fallback(|_| async { Answer::text("rest") });
        assert_eq!(body(&handlers, 52, None).await.body(), b"rest");
    }

    #[tokio::test]
    async fn a_panic_and_wrong_parameters_become_answers() {
        let handlers = Handlers::new()
            .on(1, |call: Call| async move {
                let level: u8 = call.json()?;
                Ok::<_, CallError>(Answer::ok(level))
            })
            .on(2, |_| async { panic!("boom") as Answer });
        assert_eq!(handlers.answer(call(1, None, b"7")).await.body(), b"7");
        assert_eq!(handlers.answer(call(1, None, b"{}")).await.status(), 400);
        assert_eq!(handlers.answer(call(2, None, b"{}")).await.status(), 500);
    }

    #[tokio::test]
    async fn a_desired_value_is_set_and_reported_and_an_unknown_resource_is_404() {
        let handlers = Handlers::new()
            .on_desired("led", |desired: Desired| async move {
                let level: u8 = desired.json()?;
                if level > 9 { Err(CallError::Stopped) } else { Ok(()) }
            })
            .on_desired("fan", |_| async { json!(3) });
        let set = async |payload: &'static str| {
            let call = call(0, Some("twin.set"), payload.as_bytes());
            let events = call.events().clone();
            let answer = handlers.answer(call).await;
            let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            let reported = events.with_queue(|queue| {
                queue
                    .iter()
                    .map(|entry| String::from_utf8(entry.event.body.to_vec()).unwrap())
                    .collect::<Vec<_>>()
            });
            (answer.status(), body, reported)
        };
        let led = set(r#"{"resource":"led","value":1,"version":4}"#).await;
        let reported = vec![r#"{"reported":{"led":1}}"#.to_owned()];
        assert_eq!(led, (200, json!({"resource": "led", "value": 1, "version": 4}), reported));
        let (status, body, reported) = set(r#"{"resource":"fan","value":9}"#).await;
        assert_eq!((status, &body["value"]), (200, &json!(3)));
        assert_eq!(reported, [r#"{"reported":{"fan":3}}"#]);
        for (payload, expected) in [
            (r#"{"resource":"led","value":"on"}"#, 400),
            (r#"{"resource":"led","value":10}"#, 500),
            (r#"{"resource":"door","value":1}"#, 404),
            (r#"{"resource":"led"}"#, 400),
            ("{}", 400),
        ] {
            let (status, _, reported) = set(payload).await;
            assert_eq!((status, reported.len()), (expected, 0), "{payload}");
        }
    }

    #[tokio::test]
    async fn a_device_without_a_twin_knows_no_method_of_that_name() {
        let payload = br#"{"resource":"led","value":1,"version":1}"#;
        let handlers = Handlers::new();
        assert_eq!(handlers.answer(call(0, Some("twin.set"), payload)).await.status(), 501);
        let handlers = handlers.on_method("twin.set", |_| async { Answer::empty() });
        assert_eq!(handlers.answer(call(0, Some("twin.set"), payload)).await.status(), 200);
    }
}
