//! Carrying a change out to its end when its caller goes away.
//!
//! A handler is dropped when the caller closes its connection or its time is
//! up. The store finishes what was submitted all the same, so what follows
//! (announcing a task, closing a revoked connection, waking those who wait)
//! must not be lost with the handler.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// Runs `change` in the handler's own task, and when that is dropped before
/// the end, in a task of its own.
pub(crate) fn carry_out<F>(change: F) -> CarriedOut<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    CarriedOut { change: Some(Box::pin(change)) }
}

/// A future that goes on when it is dropped.
pub(crate) struct CarriedOut<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    change: Option<Pin<Box<F>>>,
}

impl<F> Future for CarriedOut<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(change) = &mut self.change else { return Poll::Pending };
        let polled = change.as_mut().poll(context);
        if polled.is_ready() {
            self.change = None;
        }
        polled
    }
}

impl<F> Drop for CarriedOut<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(change) = self.change.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(change);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_change_whose_caller_goes_away_is_carried_out() {
        let (commit, committed) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel::<()>();
        let mut change = carry_out(async move {
            committed.await.unwrap();
            tell.send(()).unwrap();
        });
        assert!(futures_util::poll!(&mut change).is_pending());
        drop(change);
        commit.send(()).unwrap();
        told.await.unwrap();
    }
}
