//! `/api/v1/auth/login`, `/logout` and `/invitation`: a person signs in with a password, or sets one with a link, and gets a
//! session in a cookie.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, SET_COOKIE, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use covey_api::{InvitationTaken, Login, Session, SessionEnded};
use covey_core::person::{PersonSession, SignIn};
use covey_core::port::{Event, Observer, Refusal};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::asked_by::AskedBy;
use crate::auth::{self, Asked};
use crate::docs::{BodyProblems, ConflictProblem, GuardProblems, NotFoundProblem};
use crate::extract::RawBody;
use crate::people::{cookie, passwords};
use crate::problem::{Answer, Kind, Problem};
use crate::unknown_names::UnknownNames;
use crate::wire::json;

/// The routes.
pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(login), routes!(invitation_take), routes!(logout)])
}

/// A session that was begun, and what the browser shows from now on.
pub(super) type Begun = (PersonSession, String);

pub(super) fn sign_in<'a>(parts: &'a Parts, api: &Api, org: Option<&'a str>, by: &'static str) -> SignIn<'a> {
    let agent = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    // A field of a page that is left empty.
    let org = org.map(str::trim).filter(|org| !org.is_empty());
    SignIn { org, from: auth::address_of(parts, api, api.engine.now()), agent, by }
}

/// A parameter that nobody knows, for who wants to be told.
fn refuse_unknown(parts: &Parts) -> Result<(), Problem> {
    parts.extensions.get::<UnknownNames>().and_then(UnknownNames::refusal).map_or(Ok(()), Err)
}

/// Nobody is signed in by a page of another site: it would be as somebody else than whom he takes himself for.
pub(super) fn refuse_foreign(parts: &Parts, api: &Api) -> Result<(), Problem> {
    match auth::is_cross_origin(parts, api) {
        true => Err(Problem::new(Kind::Forbidden, "a page of another site must not sign anybody in")),
        false => Ok(()),
    }
}

/// Signs somebody in by name and password.
///
/// # Errors
/// The same, after the same time, for a name that nobody has and a password that is wrong; 429 after too many tries.
pub(super) async fn by_password(
    parts: &Parts,
    api: &Api,
    name: &str,
    password: &str,
    org: Option<&str>,
) -> Result<Begun, Problem> {
    refuse_foreign(parts, api)?;
    let sign_in = sign_in(parts, api, org, "password");
    let waits = |ms: i64| {
        api.metrics.happened(Event::Refused(Refusal::Credential));
        let seconds = u32::try_from((ms + 999) / 1_000).unwrap_or(u32::MAX);
        Problem::new(Kind::LimitReached, "too many tries to sign in; wait before the next").after_s(seconds)
    };
    let _stranger = api.shares.stranger()?;
    let attempt = api.people.attempts.begin(name, sign_in.from, api.engine.now()).map_err(waits)?;
    let known = api.engine.server().person_credential(name).await?;
    let (person, hash) = known.map_or((None, None), |known| (Some(known.id), known.password));
    let is_right = api.people.passwords.is_right(password, hash).await?;
    let Some(person) = person.filter(|_| is_right) else {
        api.metrics.happened(Event::Refused(Refusal::Credential));
        if let Some(asked_by) = parts.extensions.get::<AskedBy>() {
            // Not what was typed: it may be a password.
            asked_by.stranger("sign-in", sign_in.from);
        }
        return Err(Problem::new(Kind::Unauthenticated, "the name or the password is wrong"));
    };
    attempt.succeeded();
    Ok(api.engine.server().person_sign_in(person, sign_in).await?)
}

/// Sets the password of whoever has a link, and signs that one in.
///
/// # Errors
/// 404 for a link that is not good.
pub(super) async fn by_link(parts: &Parts, api: &Api, token: &str, password: &str) -> Result<Begun, Problem> {
    refuse_foreign(parts, api)?;
    passwords::validate(password)?;
    let sign_in = sign_in(parts, api, None, "link");
    let _stranger = api.shares.stranger()?;
    // Before a password is hashed for nobody.
    if let Err(error) = api.engine.server().invitation(token).await {
        if let Some(asked_by) = parts.extensions.get::<AskedBy>() {
            asked_by.stranger("link", sign_in.from);
        }
        return Err(error.into());
    }
    let hash = api.people.passwords.hash(password).await?;
    let begun = api.engine.server().invitation_take(token, hash, sign_in).await?;
    // Other sessions of the same person have ended.
    api.callers.forget();
    Ok(begun)
}

fn answer(parts: &Parts, api: &Api, (session, clear_text): &Begun) -> Response {
    let mut response = json(StatusCode::OK, &Session::of(session, Some(session.id)));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(cookie::given(clear_text, parts, api).map(|cookie| (SET_COOKIE, cookie)));
    response
}

/// Signs somebody in who has a password (no credential needed)
///
/// The answer sets the cookie `coveySession`, which is the credential from now on. A wrong name and a wrong password are answered
/// alike. After 5 wrong passwords for a name, or 20 from an address, each further try waits, twice as long each time, up to
/// 5 minutes: 429 with `Retry-After`.
#[utoipa::path(
    post, path = "/api/v1/auth/login", tag = "people", security(()),
    request_body(content = Login, content_type = "application/json",
        example = json!({"name": "ada@example.com", "password": "correct horse battery"})),
    responses(
        (status = 200, description = "The session.", body = Session,
            headers(("Set-Cookie" = String, description = "`coveySession`, for this server alone (`HttpOnly`, `SameSite=Lax`)."),
                ("Cache-Control" = String, description = "Always `no-store`."))),
        BodyProblems, GuardProblems,
    )
)]
async fn login(State(api): State<Arc<Api>>, parts: Parts, body: RawBody) -> Answer {
    let Login { name, password, org } = body.read()?;
    refuse_unknown(&parts)?;
    let begun = by_password(&parts, &api, &name, &password, org.as_deref()).await?;
    Ok(answer(&parts, &api, &begun))
}

/// Sets the password of whoever has a link, and signs that one in (no credential needed)
///
/// A link is good once, for 7 days. Other sessions of the person end.
#[utoipa::path(
    post, path = "/api/v1/auth/invitation", tag = "people", security(()),
    request_body(content = InvitationTaken, content_type = "application/json",
        example = json!({"token": "4f1c", "password": "correct horse battery"})),
    responses(
        (status = 200, description = "The session.", body = Session,
            headers(("Set-Cookie" = String, description = "`coveySession`, for this server alone (`HttpOnly`, `SameSite=Lax`)."),
                ("Cache-Control" = String, description = "Always `no-store`."))),
        BodyProblems, NotFoundProblem, GuardProblems,
    )
)]
async fn invitation_take(State(api): State<Arc<Api>>, parts: Parts, body: RawBody) -> Answer {
    let InvitationTaken { token, password } = body.read()?;
    refuse_unknown(&parts)?;
    let begun = by_link(&parts, &api, &token, &password).await?;
    Ok(answer(&parts, &api, &begun))
}

/// Ends the session of a caller.
///
/// # Errors
/// 409 for who has none.
pub(super) async fn end(asked: &Asked) -> Result<i64, Problem> {
    let no_session = || Problem::new(Kind::Conflict, "this credential is no session");
    let signed_in = asked.caller.signed_in.ok_or_else(no_session)?;
    asked.engine().person_session_end(signed_in.session, false).await?;
    asked.api.callers.forget();
    Ok(signed_in.session)
}

/// Ends the session of this request
#[utoipa::path(
    post, path = "/api/v1/auth/logout", tag = "people",
    responses(
        (status = 200, description = "It has ended.", body = SessionEnded,
            headers(("Set-Cookie" = String, description = "Takes the cookie back."))),
        ConflictProblem, GuardProblems,
    )
)]
async fn logout(asked: Asked, parts: Parts) -> Answer {
    let id = end(&asked).await?;
    let mut response = json(StatusCode::OK, &SessionEnded { id });
    response.headers_mut().extend(cookie::taken(&parts, &asked.api).map(|cookie| (SET_COOKIE, cookie)));
    Ok(response)
}
