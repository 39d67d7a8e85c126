//! `/api/v1/sessions`: who has signed in, from where and since when; and ending that.

use std::sync::Arc;

use axum::http::StatusCode;
use covey_api::{SessionEnded, SessionPage};
use covey_core::id::PersonId;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, NotFoundProblem, ScanProblems};
use crate::extract::{Parameters, Segment};
use crate::people::users::OfAll;
use crate::problem::Answer;
use crate::wire::{Whole, from_text, json, page};

/// How many sessions a page has unless asked for otherwise.
const SIZE_DEFAULT: u32 = 50;

/// The routes of sessions.
pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(session_list), routes!(session_end)])
}

/// Which sessions are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SessionListQuery {
    /// Those of this person alone.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false)]
    user_id: Option<Whole>,
    /// Those of every organisation, which needs the right orgs:admin.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = bool, required = false, default = false)]
    all: Option<bool>,
    /// The number of the page.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<Whole>,
    /// How many sessions a page has.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    size: Option<Whole>,
}

/// Sessions of people who have signed in, those that were used last first
///
/// Without the right keys:write one's own; with it those of the organisation.
#[utoipa::path(
    get, path = "/api/v1/sessions", tag = "people",
    params(SessionListQuery),
    responses(
        (status = 200, description = "The page.", body = SessionPage),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
async fn session_list(asked: Asked, Parameters(query): Parameters<SessionListQuery>) -> Answer {
    let wanted = page(query.page, query.size, SIZE_DEFAULT);
    let person = query.user_id.map(|Whole(id)| PersonId(id));
    let found = asked.engine().person_session_list(person, query.all == Some(true), wanted).await?;
    let this = asked.caller.signed_in.map(|signed_in| signed_in.session);
    Ok(json(StatusCode::OK, &SessionPage::of(&found, wanted, this)))
}

/// Ends a session: one's own, or with the right keys:write one of the organisation
///
/// It is dead within a second on every server, with the tokens that were made in it; its streams end within 15 seconds.
#[utoipa::path(
    delete, path = "/api/v1/sessions/{id}", tag = "people",
    params(("id" = i64, Path, description = "The session's number."), OfAll),
    responses(
        (status = 200, description = "The session has ended.", body = SessionEnded),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn session_end(
    asked: Asked,
    Segment(Whole(id)): Segment<Whole>,
    Parameters(query): Parameters<OfAll>,
) -> Answer {
    asked.engine().person_session_end(id, query.is_of_all()).await?;
    asked.api.callers.forget();
    Ok(json(StatusCode::OK, &SessionEnded { id }))
}
