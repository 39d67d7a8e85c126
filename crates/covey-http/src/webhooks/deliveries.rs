//! The log of a webhook: each attempt to deliver a message.

use std::str::FromStr;

use axum::http::StatusCode;
use covey_api::WebhookDelivery;
use covey_core::webhook::{AttemptsFrom, Outcome};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::{Parameters, Segment};
use crate::problem::Answer;
use crate::webhooks::key::WebhookKey;
use crate::wire::{Whole, from_text, json};

/// How many attempts are given unless asked for otherwise.
const LIMIT_DEFAULT: u32 = 50;

/// Which attempts are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveriesQuery {
    /// Those before this one, newest first.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false)]
    before: Option<Whole>,
    /// Those after this one, oldest first.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false)]
    after: Option<Whole>,
    /// Those that ended like this: `delivered`, `retry`, `dead`, `test_passed`, `test_failed`.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = String, required = false, pattern = "^(delivered|retry|dead|test_passed|test_failed)$")]
    outcome: Option<OutcomeName>,
    /// How many at most.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    limit: Option<Whole>,
}

/// An outcome by its name.
#[derive(Clone, Copy)]
struct OutcomeName(Outcome);

impl FromStr for OutcomeName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Outcome::from_name(text).map(Self);
        known.ok_or("must be delivered, retry, dead, test_passed or test_failed")
    }
}

/// Which part of a list is wanted. What does not fit is left to the core to refuse.
pub(super) fn from(
    before: Option<Whole>,
    after: Option<Whole>,
    outcome: Option<Outcome>,
    limit: Option<Whole>,
) -> AttemptsFrom {
    let limit = limit.map_or(LIMIT_DEFAULT, |Whole(limit)| u32::try_from(limit).unwrap_or(0));
    let number = |Whole(number)| number;
    AttemptsFrom { before: before.map(number), after: after.map(number), outcome, limit }
}

/// What a webhook was sent, and how that went
///
/// Of each webhook the newest 10,000 attempts of the last 7 days are kept.
#[utoipa::path(
    get, path = "/api/v1/webhooks/{key}/deliveries", tag = "webhooks", params(WebhookKey, DeliveriesQuery),
    responses(
        (status = 200, description = "The attempts, newest first; with `after`, oldest first.", body = Vec<WebhookDelivery>),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
pub(super) async fn webhook_deliveries(
    asked: Asked,
    Segment(WebhookKey(wanted)): Segment<WebhookKey>,
    Parameters(query): Parameters<DeliveriesQuery>,
) -> Answer {
    let outcome = query.outcome.map(|OutcomeName(outcome)| outcome);
    let from = from(query.before, query.after, outcome, query.limit);
    let read = || async {
        let found = asked.engine().webhook_attempts(wanted, from).await?;
        let views: Vec<_> = found.iter().map(WebhookDelivery::of).collect();
        Ok(json(StatusCode::OK, &views))
    };
    asked.large(read).await
}
