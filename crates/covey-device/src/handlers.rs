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
        let handler = call
            .method()
            .and_then(|name| self.by_name.get(name))
            .or_else(|| self.by_code.get(&call.method_code()))
            .or(self.fallback.as_ref());
        let Some(handler) = handler else {
            let method_code = call.method_code();
            let body = json!({
                "error": "unknown method",
                "method_code": method_code,
                "method": call.method(),
            });
            return Answer::ok(body).with_status(501);
        };
        let task_id = call.task_id();
        let running = async move { handler(call).await };
        match AssertUnwindSafe(running).catch_unwind().await {
            Ok(answer) => answer,
            Err(_) => {
                tracing::error!(%task_id, "the handler panicked; the call is answered with 500");
                Answer::error(500, "the handler panicked")
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
            .field("fallback", &self.fallback.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::call::CallError;
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
}
