//! `/login`, `/invite` and `/account`: the pages on which a browser signs in. They work without scripts, but that the code of
//! an invitation must then be pasted; nothing on them is from elsewhere.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::Api;
use crate::auth::Asked;
use crate::extract::RawBody;
use crate::people::cookie;
use crate::people::sign_in::{self, Begun};
use crate::problem::{Kind, Problem};

/// What holds for every page: nothing of elsewhere, in no frame, kept by nobody. The page itself is told as where a form comes
/// from, since that is what proves it is one of this server.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

const STYLE: &str = include_str!("pages/page.css");
const SCRIPT: &str = include_str!("pages/page.js");
const FRAME: &str = include_str!("pages/frame.html");
const LOGIN: &str = include_str!("pages/login.html");
const INVITE: &str = include_str!("pages/invite.html");
const ACCOUNT: &str = include_str!("pages/account.html");

/// The routes.
pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/login", get(login_page).post(login))
        .route("/invite", get(invite_page).post(invite))
        .route("/account", get(account))
        .route("/logout", post(logout))
        .route("/login/page.css", get(async || part("text/css; charset=utf-8", STYLE)))
        .route("/login/page.js", get(async || part("text/javascript; charset=utf-8", SCRIPT)))
}

fn part(kind: &'static str, text: &'static str) -> Response {
    let headers = [(CONTENT_TYPE, kind), (X_CONTENT_TYPE_OPTIONS, "nosniff"), (CACHE_CONTROL, "no-cache")];
    (headers, text).into_response()
}

/// A text as it stands in a page.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '&' | '<' | '>' | '"' | '\'' => {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "&#{};", u32::from(letter));
            }
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// A page with a body in which everything is escaped.
fn page(status: StatusCode, title: &str, body: &str, problem: Option<&str>) -> Response {
    let problem = problem.map_or_else(String::new, |problem| {
        format!("<p id=\"problem\" role=\"alert\">{}</p>", escaped(problem))
    });
    let text = FRAME.replace("{title}", title).replace("{problem}", &problem).replace("{body}", body);
    let mut response = (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response();
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn login_page(State(api): State<Arc<Api>>) -> Response {
    page(StatusCode::OK, "Sign in", &login_body(&api), None)
}

async fn invite_page(State(api): State<Arc<Api>>) -> Response {
    page(StatusCode::OK, "Set a password", &invite_body(&api), None)
}

/// The form, with a way to each provider. Names of providers are letters and digits.
fn login_body(api: &Api) -> String {
    let link = |(name, title): (&str, &str)| {
        format!("<p><a href=\"/login/oidc/{name}\">Sign in with {}</a></p>\n", escaped(title))
    };
    let links: String = api.people.oidc.titles().map(link).collect();
    format!("{LOGIN}{links}")
}

fn invite_body(api: &Api) -> String {
    let button = |(name, title): (&str, &str)| {
        format!(
            "<button formaction=\"/login/oidc/{name}\" formnovalidate>Use {} instead of a password</button>\n",
            escaped(title)
        )
    };
    let buttons: String = api.people.oidc.titles().map(button).collect();
    INVITE.replace("{providers}", &buttons)
}

/// Sends a browser on by a page, with a cookie: a form must not be sent on to elsewhere, and a browser that comes from elsewhere shows
/// its cookies when this page sends it on.
fn on_page(to: &str, title: &str, cookie: Option<HeaderValue>) -> Response {
    let to = escaped(to);
    let body =
        format!("<meta http-equiv=\"refresh\" content=\"0;url={to}\"><p><a href=\"{to}\">Go on</a></p>");
    let mut response = page(StatusCode::OK, title, &body, None);
    response.headers_mut().extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    response
}

/// A page that tells why somebody does not get further.
fn told(title: &str, problem: &Problem) -> Response {
    let body = "<p><a href=\"/login\">Sign in</a></p>";
    let mut response = page(problem.status(), title, body, Some(&detail(problem)));
    response.headers_mut().extend(problem.retry_after());
    response
}

/// After a sign-in with a provider was begun, or was not.
pub(super) fn sent_or_told(sent: Result<(String, Option<HeaderValue>), Problem>) -> Response {
    match sent {
        Ok((url, cookie)) => on_page(&url, "Signing in", cookie),
        Err(problem) => told("Sign in", &problem),
    }
}

/// After a provider has sent somebody back.
pub(super) fn entered_or_told(entered: Result<Option<HeaderValue>, Problem>) -> Response {
    match entered {
        Ok(cookie) => on_page("/account", "Signed in", cookie),
        Err(problem) => told("Sign in", &problem),
    }
}

/// Sends a browser on, with a cookie if there is one.
fn sent_on(to: &'static str, cookie: Option<HeaderValue>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static(to));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    response
}

/// What a form has.
pub(super) fn form<T: DeserializeOwned>(body: &RawBody) -> Result<T, Problem> {
    let unreadable = |_| Problem::new(Kind::Invalid, "fill in every field");
    serde_html_form::from_bytes(&body.bytes()).map_err(unreadable)
}

#[derive(Deserialize)]
struct LoginForm {
    name: String,
    password: String,
    #[serde(default)]
    org: String,
}

#[derive(Deserialize)]
struct InviteForm {
    token: String,
    password: String,
    again: String,
}

/// What a person is told.
fn detail(problem: &Problem) -> Cow<'_, str> {
    match problem.kind {
        Kind::NotFound if problem.detail.contains("link") => {
            Cow::Borrowed("This link is not good: it was used, or is too old. Ask for another one.")
        }
        _ => Cow::Borrowed(&problem.detail),
    }
}

/// After somebody has signed in, or has not.
fn answer(begun: Result<Begun, Problem>, parts: &Parts, api: &Api, title: &str, body: &str) -> Response {
    let problem = match begun {
        Ok((_, clear_text)) => return sent_on("/account", cookie::given(&clear_text, parts, api)),
        Err(problem) => problem,
    };
    let mut response = page(problem.status(), title, body, Some(&detail(&problem)));
    response.headers_mut().extend(problem.retry_after());
    response
}

async fn login(State(api): State<Arc<Api>>, parts: Parts, body: RawBody) -> Response {
    let begun = async {
        let LoginForm { name, password, org } = form(&body)?;
        sign_in::by_password(&parts, &api, &name, &password, Some(&org)).await
    };
    answer(begun.await, &parts, &api, "Sign in", &login_body(&api))
}

async fn invite(State(api): State<Arc<Api>>, parts: Parts, body: RawBody) -> Response {
    let begun = async {
        let InviteForm { token, password, again } = form(&body)?;
        if password != again {
            return Err(Problem::new(Kind::Invalid, "the two passwords are not the same"));
        }
        // A link that was pasted whole is as good as what stands behind its #.
        let token = token.trim().rsplit('#').next().unwrap_or_default();
        sign_in::by_link(&parts, &api, token, &password).await
    };
    answer(begun.await, &parts, &api, "Set a password", &invite_body(&api))
}

async fn account(asked: Result<Asked, Problem>) -> Response {
    let Ok(asked) = asked else { return sent_on("/login", None) };
    let caller = &asked.caller;
    let rights = caller.rights.names().collect::<Vec<_>>().join(", ");
    let body = ACCOUNT
        .replace("{rights}", &rights)
        .replace("{org}", &escaped(&caller.org_name))
        .replace("{name}", &escaped(&caller.name));
    page(StatusCode::OK, "Signed in", &body, None)
}

async fn logout(asked: Result<Asked, Problem>, parts: Parts) -> Response {
    let ended = async {
        let asked = asked?;
        sign_in::end(&asked).await?;
        Ok::<_, Problem>(cookie::taken(&parts, &asked.api))
    };
    match ended.await {
        Ok(cookie) => sent_on("/login", cookie),
        Err(problem) if problem.kind == Kind::Unauthenticated => sent_on("/login", None),
        Err(problem) => page(problem.status(), "Sign in", "", Some(&problem.detail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_somebody_typed_becomes_part_of_a_page() {
        assert_eq!(escaped("<b a='x'>\"&"), "&#60;b a=&#39;x&#39;&#62;&#34;&#38;");
        assert_eq!(escaped("ada@example.com ü"), "ada@example.com ü");
    }

    #[test]
    fn every_page_has_its_parts_and_nothing_of_elsewhere() {
        for body in [LOGIN, INVITE, ACCOUNT, FRAME] {
            assert!(!body.contains("//") && !body.contains("style=") && !body.contains("onclick"), "{body}");
        }
        assert!(["{title}", "{problem}", "{body}"].iter().all(|part| FRAME.contains(part)));
    }
}
