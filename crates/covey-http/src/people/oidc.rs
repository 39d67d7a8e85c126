//! `/login/oidc/{name}`: signing in with an OpenID provider. What was begun is remembered in a cookie of the browser, so that another
//! server can go on with it; the provider sends the browser back with a code.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{COOKIE, HOST, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use axum::routing::get;
use covey_core::access::Role;
use covey_core::person::{Enrolled, Identity, Membership};
use covey_token::{Exchange, Login, LoginFault, OrgFrom, Pending, claim, org_of};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::Api;
use crate::asked_by::AskedBy;
use crate::connection::Connection;
use crate::extract::{Parameters, RawBody};
use crate::people::sign_in::{self, Begun};
use crate::people::{cookie, pages};
use crate::problem::{Kind, Problem};

/// How many providers there may be.
/// Limit for the server, set by `oidc_logins`: the server does not start.
pub const LOGINS_MAX: usize = 16;
/// The cookie that remembers a sign-in that was begun.
const COOKIE_NAME: &str = "coveySignIn";
/// How long a sign-in that was begun may take, in seconds.
/// Limit for each sign-in: it must be begun again.
const PENDING_S: u32 = 600;
/// Longest code of a provider, in bytes.
/// Limit for each sign-in: it is refused.
const CODE_BYTES_MAX: usize = 4_096;

/// A provider with which people sign in.
pub struct OidcLogin {
    /// What it is called in paths.
    pub name: String,
    /// What it is called on the page.
    pub title: String,
    /// How it is asked.
    pub login: Login,
    /// What it may say of people who are not known; nothing without it.
    pub roles: Option<OidcRoles>,
}

/// How a provider says what somebody may do.
pub struct OidcRoles {
    /// Which organisation.
    pub org: OrgFrom,
    /// The claim that has a role, or a list of some.
    pub claim: String,
    /// What each of its roles is here.
    pub roles: BTreeMap<String, Role>,
}

/// The providers, and the way to them.
#[derive(Default)]
pub struct OidcLogins {
    logins: Vec<OidcLogin>,
    exchange: Option<Arc<dyn Exchange>>,
}

impl OidcLogins {
    /// These providers.
    #[must_use]
    pub fn new(logins: Vec<OidcLogin>, exchange: Arc<dyn Exchange>) -> Self {
        Self { logins, exchange: Some(exchange) }
    }

    fn login(&self, name: &str) -> Result<(&OidcLogin, &dyn Exchange), Problem> {
        let login = self.logins.iter().find(|login| login.name == name);
        let unknown = || Problem::new(Kind::NotFound, "there is no such provider");
        login.zip(self.exchange.as_deref()).ok_or_else(unknown)
    }

    /// The names and titles.
    pub(super) fn titles(&self) -> impl Iterator<Item = (&str, &str)> {
        self.logins.iter().map(|login| (login.name.as_str(), login.title.as_str()))
    }
}

impl OidcRoles {
    /// What is said of a person, if anything is that means something here. Of several roles the one that may do most.
    fn enrolled(&self, claims: &Map<String, Value>) -> Option<Enrolled> {
        let said = match claim(claims, &self.claim)? {
            Value::String(one) => vec![one.as_str()],
            Value::Array(list) => list.iter().filter_map(Value::as_str).take(256).collect(),
            _ => return None,
        };
        let roles = said.iter().filter_map(|name| self.roles.get(*name).copied());
        let role = roles.max_by_key(|role| role.rights().0.count_ones())?;
        let org = org_of(&self.org, claims).ok()?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let named = text("email").filter(|_| claims.get("email_verified") != Some(&Value::Bool(false)));
        let name = named.or_else(|| text("preferred_username")).or_else(|| text("sub"))?;
        let name = covey_core::person::Person::name_of(name).ok()?;
        Some(Enrolled { name, org, membership: Membership { role, is_for_every_org: false } })
    }
}

/// The routes.
pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/login/oidc/{name}", get(begin).post(begin_with_link))
        .route("/login/oidc/{name}/callback", get(finish))
}

/// The address at which this browser reaches the server.
fn origin(parts: &Parts, api: &Api) -> Option<String> {
    if let Some(url) = &api.people.public_url {
        return Some(url.origin().to_owned());
    }
    let is_tls = parts.extensions.get::<Arc<Connection>>().is_some_and(|connection| connection.is_tls);
    let host = parts.uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| parts.headers.get(HOST)?.to_str().ok())?;
    Some(format!("{}://{host}", if is_tls { "https" } else { "http" }))
}

fn redirect(parts: &Parts, api: &Api, name: &str) -> Result<String, Problem> {
    let origin = origin(parts, api).ok_or_else(|| Problem::invalid("host", "must be given"))?;
    Ok(format!("{origin}/login/oidc/{name}/callback"))
}

async fn begin(State(api): State<Arc<Api>>, Path(name): Path<String>, parts: Parts) -> Response {
    pages::sent_or_told(sent(&api, &parts, &name, "").await)
}

#[derive(Deserialize)]
struct LinkForm {
    #[serde(default)]
    token: String,
}

/// With the code of an invitation: the provider's account is taken in place of a password.
async fn begin_with_link(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    parts: Parts,
    body: RawBody,
) -> Response {
    let sent = async {
        sign_in::refuse_foreign(&parts, &api)?;
        let LinkForm { token } = pages::form(&body)?;
        let token = token.trim().rsplit('#').next().unwrap_or_default();
        // Before anybody is sent away with it.
        api.engine.server().invitation(token).await?;
        sent(&api, &parts, &name, token).await
    };
    pages::sent_or_told(sent.await)
}

/// Where the browser goes, and the cookie that remembers it.
async fn sent(
    api: &Api,
    parts: &Parts,
    name: &str,
    link: &str,
) -> Result<(String, Option<HeaderValue>), Problem> {
    let (login, exchange) = api.people.oidc.login(name)?;
    let _stranger = api.shares.stranger()?;
    let secret = || api.engine.secret_text();
    let pending = Pending { state: secret(), nonce: secret(), verifier: secret() };
    let redirect = redirect(parts, api, name)?;
    let url = login.login.begin(&pending, &redirect, exchange).await.map_err(told)?;
    let Pending { state, nonce, verifier } = pending;
    let value = format!("{name}.{state}.{nonce}.{verifier}.{link}");
    Ok((url.into(), set(&value, PENDING_S, parts, api)))
}

fn set(value: &str, seconds: u32, parts: &Parts, api: &Api) -> Option<HeaderValue> {
    let secure = if cookie::is_secure(parts, api) { "; Secure" } else { "" };
    let text =
        format!("{COOKIE_NAME}={value}; Path=/login/oidc; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::try_from(text).ok()
}

/// What was begun in this browser with this provider, and the link that it has shown.
fn pending(headers: &HeaderMap, name: &str) -> Option<(Pending, String)> {
    let lists = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lists.flat_map(|list| list.split(';')).filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(known, _)| known.trim() == COOKIE_NAME)?;
    let mut rest = value.trim().rsplitn(5, '.');
    let (link, verifier, nonce, state) = (rest.next()?, rest.next()?, rest.next()?, rest.next()?);
    let owned = |text: &str| text.to_owned();
    let pending = Pending { state: owned(state), nonce: owned(nonce), verifier: owned(verifier) };
    (rest.next()? == name).then(|| (pending, owned(link)))
}

fn told(fault: LoginFault) -> Problem {
    let kind = match fault {
        LoginFault::Provider(_) => Kind::Unavailable,
        LoginFault::State => Kind::Invalid,
        LoginFault::Token(_) | LoginFault::Claim(_) => Kind::Forbidden,
    };
    Problem::new(kind, fault.to_string())
}

/// With what a provider sends a browser back.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answered {
    code: String,
    state: String,
    error: String,
    /// Which provider it is, where that says so (RFC 9207).
    iss: String,
}

async fn finish(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    parts: Parts,
    answered: Result<Parameters<Answered>, Problem>,
) -> Response {
    let begun = signed_in(&api, &parts, &name, answered.map(|Parameters(answered)| answered)).await;
    if begun.is_err()
        && let Some(asked_by) = parts.extensions.get::<AskedBy>()
    {
        asked_by.stranger("sign-in", crate::auth::address_of(&parts, &api, api.engine.now()));
    }
    let mut response = pages::entered_or_told(begun.map(|(_, text)| cookie::given(&text, &parts, &api)));
    response.headers_mut().extend(set("", 0, &parts, &api).map(|cookie| (SET_COOKIE, cookie)));
    response
}

async fn signed_in(
    api: &Api,
    parts: &Parts,
    name: &str,
    answered: Result<Answered, Problem>,
) -> Result<Begun, Problem> {
    let (login, exchange) = api.people.oidc.login(name)?;
    let Answered { code, state, error, iss } = answered?;
    let (pending, link) = pending(&parts.headers, name).ok_or_else(|| told(LoginFault::State))?;
    if !error.is_empty() {
        return Err(Problem::new(Kind::Forbidden, "the provider has not signed you in"));
    }
    let is_other = !iss.is_empty() && iss != login.login.issuer().name();
    if is_other || !(1..=CODE_BYTES_MAX).contains(&code.len()) {
        return Err(told(LoginFault::State));
    }
    // What is asked of the provider costs others nothing.
    let _stranger = api.shares.stranger()?;
    let redirect = redirect(parts, api, name)?;
    let now = api.engine.now();
    let said = login.login.finish((&code, &state), &pending, &redirect, exchange, now).await;
    let (claims, subject) = said.map_err(told)?;
    let identity = Identity { issuer: login.login.issuer().name().to_owned(), subject };
    let sign_in = sign_in::sign_in(parts, api, None, "provider");
    let server = api.engine.server();
    if !link.is_empty() {
        let begun = server.identity_take(&link, identity, sign_in).await?;
        // Other sessions of the same person have ended.
        api.callers.forget();
        return Ok(begun);
    }
    let enrolled = login.roles.as_ref().and_then(|roles| roles.enrolled(&claims));
    let begun = server.identity_sign_in(identity, enrolled, sign_in).await;
    if begun.is_ok() {
        api.callers.forget();
    }
    begun.map_err(|error| match error {
        covey_core::Error::NotFound { .. } => {
            Problem::new(Kind::Forbidden, "nobody here is known by this account; ask for an invitation")
        }
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_begun_is_read_for_its_provider_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, "a=b; coveySignIn=corp.s.n.v.link; c=d".parse().unwrap());
        let (found, link) = pending(&headers, "corp").unwrap();
        assert_eq!((found.state.as_str(), found.nonce.as_str(), found.verifier.as_str()), ("s", "n", "v"));
        assert_eq!(link, "link");
        assert!(pending(&headers, "other").is_none() && pending(&HeaderMap::new(), "corp").is_none());
        headers.insert(COOKIE, "coveySignIn=corp.s.n".parse().unwrap());
        assert!(pending(&headers, "corp").is_none());
    }
}
