//! `/api/v1/users`: people, what they may do, and the links with which they set a password. Needs the right keys:write, as
//! keys do; nobody gives what it has not.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use covey_api::{User, UserLinked, UserNew, UserPage, UserRemoved, UserRole};
use covey_core::access::Role;
use covey_core::id::PersonId;
use covey_core::person::{MadeLink, Membership};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{
    BodyProblems, ConflictProblem, GuardProblems, InvalidProblem, NotFoundProblem, ScanProblems,
};
use crate::extract::{Parameters, RawBody, Segment};
use crate::problem::{Answer, Problem};
use crate::wire::{Whole, from_text, json, page};

/// How many people a page has unless asked for otherwise.
const SIZE_DEFAULT: u32 = 50;
/// Where a link leads; what is secret of it stands behind `#`, which a browser sends to nobody.
const INVITE: &str = "/invite#";

/// The routes of people.
pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(user_list, user_add), routes!(user_get, user_role, user_remove), routes!(user_link)])
}

/// Whether it is about every organisation.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OfAll {
    /// Of whichever organisation, which needs the right orgs:admin.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = bool, required = false, default = false)]
    all: Option<bool>,
}

impl OfAll {
    pub(super) fn is_of_all(&self) -> bool {
        self.all == Some(true)
    }
}

/// Which people are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct UserListQuery {
    /// Those of every organisation, which needs the right orgs:admin: one of several organisations is there for each.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = bool, required = false, default = false)]
    all: Option<bool>,
    /// The number of the page.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<Whole>,
    /// How many people a page has.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    size: Option<Whole>,
}

/// A role, as a request names it.
fn membership(role: &str, is_for_every_org: bool) -> Result<Membership, Problem> {
    let problem = "must be admin, operator, integrator or viewer";
    let role = Role::from_name(role).ok_or_else(|| Problem::invalid("role", problem))?;
    Ok(Membership { role, is_for_every_org })
}

fn linked(status: StatusCode, api: &Api, made: &MadeLink) -> Response {
    let origin = api.people.public_url.as_ref().map_or("", super::PublicUrl::origin);
    let link = made.clear_text.as_ref().map(|token| Cow::Owned(format!("{origin}{INVITE}{token}")));
    let mut response = json(status, &UserLinked { user: User::of(&made.person), link });
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The people of your organisation
#[utoipa::path(
    get, path = "/api/v1/users", tag = "people",
    params(UserListQuery),
    responses(
        (status = 200, description = "The page.", body = UserPage),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
async fn user_list(asked: Asked, Parameters(query): Parameters<UserListQuery>) -> Answer {
    let wanted = page(query.page, query.size, SIZE_DEFAULT);
    let found = asked.engine().person_list(None, query.all == Some(true), wanted).await?;
    Ok(json(StatusCode::OK, &UserPage::of(&found, wanted)))
}

/// Makes a person, and a link with which it sets a password
///
/// The link is good once, for 7 days. Nobody gives a role that may do more than itself. With the right orgs:admin the
/// person may be of another organisation, and one that is there already: then it is in one more organisation, and gets no link.
#[utoipa::path(
    post, path = "/api/v1/users", tag = "people",
    request_body(content = UserNew, content_type = "application/json",
        example = json!({"name": "grace@example.com", "role": "operator"})),
    responses(
        (status = 201, description = "The person is made. Keep the link: only a digest of it is stored.", body = UserLinked,
            headers(("Cache-Control" = String, description = "Always `no-store`."))),
        BodyProblems, ConflictProblem, GuardProblems,
    )
)]
async fn user_add(asked: Asked, body: RawBody) -> Answer {
    let UserNew { name, role, org, every_org } = body.read()?;
    let org = org.as_deref().unwrap_or(&asked.caller.org_name);
    let made = asked.engine().person_add(&name, org, membership(&role, every_org)?).await?;
    Ok(linked(StatusCode::CREATED, &asked.api, &made))
}

/// A person of your organisation
#[utoipa::path(
    get, path = "/api/v1/users/{id}", tag = "people",
    params(("id" = i64, Path, description = "The person's number."), OfAll),
    responses(
        (status = 200, description = "The person.", body = User),
        InvalidProblem, NotFoundProblem, ScanProblems, GuardProblems,
    )
)]
async fn user_get(
    asked: Asked,
    Segment(Whole(id)): Segment<Whole>,
    Parameters(query): Parameters<OfAll>,
) -> Answer {
    let person = asked.engine().person_get(PersonId(id), query.is_of_all()).await?;
    Ok(json(StatusCode::OK, &User::of(&person)))
}

/// Says what a person may do in your organisation from now on; its sessions there end
#[utoipa::path(
    patch, path = "/api/v1/users/{id}", tag = "people",
    params(("id" = i64, Path, description = "The person's number.")),
    request_body(content = UserRole, content_type = "application/json", example = json!({"role": "viewer"})),
    responses(
        (status = 200, description = "The person.", body = User),
        BodyProblems, NotFoundProblem, GuardProblems,
    )
)]
async fn user_role(asked: Asked, Segment(Whole(id)): Segment<Whole>, body: RawBody) -> Answer {
    let UserRole { role, every_org } = body.read()?;
    let person = asked.engine().person_role_set(PersonId(id), membership(&role, every_org)?).await?;
    asked.api.callers.forget();
    Ok(json(StatusCode::OK, &User::of(&person)))
}

/// Takes a person out of your organisation; its sessions there end
///
/// Who is in no other organisation is gone. With `all` the person is taken out of every organisation.
#[utoipa::path(
    delete, path = "/api/v1/users/{id}", tag = "people",
    params(("id" = i64, Path, description = "The person's number."), OfAll),
    responses(
        (status = 200, description = "The person is removed.", body = UserRemoved),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn user_remove(
    asked: Asked,
    Segment(Whole(id)): Segment<Whole>,
    Parameters(query): Parameters<OfAll>,
) -> Answer {
    asked.engine().person_remove(PersonId(id), query.is_of_all()).await?;
    asked.api.callers.forget();
    Ok(json(StatusCode::OK, &UserRemoved { id }))
}

/// Makes a link with which a person sets another password, in place of one that is there
///
/// Whoever has the link is that person. So it takes every right that the person has, in each of its organisations.
#[utoipa::path(
    post, path = "/api/v1/users/{id}/link", tag = "people",
    params(("id" = i64, Path, description = "The person's number."), OfAll),
    responses(
        (status = 200, description = "The link. Keep it: only a digest of it is stored.", body = UserLinked,
            headers(("Cache-Control" = String, description = "Always `no-store`."))),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn user_link(
    asked: Asked,
    Segment(Whole(id)): Segment<Whole>,
    Parameters(query): Parameters<OfAll>,
) -> Answer {
    let made = asked.engine().person_link(PersonId(id), query.is_of_all()).await?;
    Ok(linked(StatusCode::OK, &asked.api, &made))
}
