//! Waiting for a task: `?wait=SECONDS` (rest-api "Tasks").

use std::str::FromStr;
use std::time::Duration;

use axum::http::StatusCode;
use covey_core::task::TaskDetail;
use serde::Deserialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use crate::auth::Asked;
use crate::device_tasks::answer::{pointed_to, with_task};
use crate::problem::{Answer, Problem};
use crate::shares::{self, Slot};
use crate::wire::from_text;

/// Longest wait, in seconds.
/// Limit for each request: 422.
const WAIT_SECONDS_MAX: f64 = 60.0;

/// How long a caller wants to wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wait(Duration);

impl FromStr for Wait {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=WAIT_SECONDS_MAX).contains(seconds));
        seconds.map(|seconds| Self(Duration::from_secs_f64(seconds))).ok_or("must be 0 to 60 seconds")
    }
}

/// The parameter of those who may wait.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitQuery {
    /// Wait for the task to be final, for at most so many seconds.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = f64, required = false, minimum = 0, maximum = 60, example = 30)]
    pub(crate) wait: Option<Wait>,
}

/// A slot of the caller's share of those who wait. While it is held the caller's request does not count as
/// one that runs.
///
/// # Errors
/// A share that is full.
pub(crate) fn begin(asked: &Asked) -> Result<Slot, Problem> {
    asked.take(shares::Kind::Waiters)
}

impl Wait {
    /// What comes of waiting for a task's end; none when the time is up. When the server
    /// stops the time is up too: 202 is better than a cut connection.
    pub(crate) async fn for_end<T>(
        self,
        end: impl Future<Output = T>,
        shutdown: &CancellationToken,
    ) -> Option<T> {
        tokio::select! {
            biased;
            end = end => Some(end),
            () = sleep(self.0) => None,
            () = shutdown.cancelled() => None,
        }
    }
}

/// The answer when the time is up: the task's state now, or the last one that
/// was known if the store does not answer, because the task is there.
pub(crate) async fn state_now(asked: &Asked, last: TaskDetail) -> Answer {
    let detail = asked.engine().task_get(last.task.id).await.unwrap_or(last);
    let now = asked.api.engine.now();
    let status = if detail.task.status_at(now).is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let response = with_task(asked, status, &detail).await?;
    Ok(if status == StatusCode::ACCEPTED { pointed_to(response, detail.task.id) } else { response })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_0_to_60_seconds() {
        for (text, ms) in [("0", 0), ("60", 60_000), ("0.25", 250), ("1e1", 10_000)] {
            assert_eq!(text.parse(), Ok(Wait(Duration::from_millis(ms))), "{text}");
        }
        for bad in ["", "-1", "60.1", "61", "NaN", "inf", "1e400", "soon"] {
            assert!(bad.parse::<Wait>().is_err(), "{bad}");
        }
    }
}
