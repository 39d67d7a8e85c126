//! Signing a person in with an OpenID provider: the authorization code flow with PKCE (OpenID Connect Core 1.0 §3.1, RFC 7636). What
//! must be remembered between the two requests goes with the browser, so that any server can go on where another began.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use covey_core::id::UnixMs;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use crate::compact::Compact;
use crate::fault::TokenFault;
use crate::issuer::Issuer;
use crate::source::{Exchange, is_safe};

/// How long the addresses of a provider are used before they are read again.
const ADDRESSES_FOR: Duration = Duration::from_secs(300);
/// How long it is not asked again that has not answered, whoever wants to sign in meanwhile.
const FAILURE_FOR: Duration = Duration::from_secs(5);
/// Longest subject of a provider, in bytes (OpenID Connect Core 1.0 §2).
/// Limit for each person: it is not signed in.
const SUBJECT_BYTES_MAX: usize = 255;

/// A provider with which people sign in.
pub struct Login {
    issuer: Arc<Issuer>,
    client_id: String,
    client_secret: Option<String>,
    scope: String,
    about: Url,
    addresses: Mutex<Option<(Instant, Result<Addresses, String>)>>,
}

#[derive(Clone)]
struct Addresses {
    authorization: Url,
    token: Url,
    /// Whether the secret of the client is taken in the form alone.
    wants_form: bool,
}

/// What is remembered of a sign-in that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Comes back with the code.
    pub state: String,
    /// Comes back in the token.
    pub nonce: String,
    /// Proves that the code was asked for here.
    pub verifier: String,
}

/// Why somebody was not signed in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginFault {
    /// The provider does not answer, or not as it must.
    #[error("the provider cannot be asked: {0}")]
    Provider(String),
    /// The answer is for another sign-in than the one that was begun in this browser.
    #[error("this sign-in was not begun in this browser, or is too old; begin again")]
    State,
    /// What the provider says of the person is not taken.
    #[error("what the provider says is not taken: {0}")]
    Token(#[from] TokenFault),
    /// The same, of what only a sign-in has.
    #[error("what the provider says is not taken: {0}")]
    Claim(&'static str),
}

impl Login {
    /// With an issuer whose tokens must be for this client, and where the provider says what it is.
    #[must_use]
    pub fn new(
        issuer: Arc<Issuer>,
        client_id: String,
        client_secret: Option<String>,
        scope: String,
        about: Url,
    ) -> Self {
        Self { issuer, client_id, client_secret, scope, about, addresses: Mutex::default() }
    }

    /// The issuer.
    #[must_use]
    pub const fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    async fn addresses(&self, exchange: &dyn Exchange) -> Result<Addresses, LoginFault> {
        let mut known = self.addresses.lock().await;
        if let Some((since, addresses)) = known.as_ref()
            && since.elapsed() < if addresses.is_ok() { ADDRESSES_FOR } else { FAILURE_FOR }
        {
            return addresses.clone().map_err(LoginFault::Provider);
        }
        let about = exchange.get(self.about.clone()).await;
        let read = about.and_then(|about| addresses_of(&about, self.issuer.name()));
        *known = Some((Instant::now(), read.clone()));
        read.map_err(LoginFault::Provider)
    }

    /// Where a browser goes to sign in, and comes back from to `redirect`.
    ///
    /// # Errors
    /// [`LoginFault::Provider`].
    pub async fn begin(
        &self,
        pending: &Pending,
        redirect: &str,
        exchange: &dyn Exchange,
    ) -> Result<Url, LoginFault> {
        let mut url = self.addresses(exchange).await?.authorization;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&pending.verifier));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", redirect)
            .append_pair("scope", &self.scope)
            .append_pair("state", &pending.state)
            .append_pair("nonce", &pending.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Takes the code with which a browser came back for what the provider says of the person: the claims, and whom it means.
    ///
    /// # Errors
    /// [`LoginFault`].
    pub async fn finish(
        &self,
        (code, state): (&str, &str),
        pending: &Pending,
        redirect: &str,
        exchange: &dyn Exchange,
        now: UnixMs,
    ) -> Result<(Map<String, Value>, String), LoginFault> {
        if !is_same(state, &pending.state) {
            return Err(LoginFault::State);
        }
        let addresses = self.addresses(exchange).await?;
        let (form, authorization) = self.asked(code, pending, redirect, addresses.wants_form);
        let answer = exchange.post_form(addresses.token, form, authorization).await;
        let answer = answer.map_err(LoginFault::Provider)?;
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|_| LoginFault::Provider("what it gives for a code is not JSON".to_owned()))?;
        let token = answer.get("id_token").and_then(Value::as_str);
        let token = token.ok_or(LoginFault::Claim("there is no id_token"))?;
        self.said(&Compact::read(token)?, pending, now).await
    }

    /// The form that is sent with a code, and the header `Authorization` beside it.
    fn asked(
        &self,
        code: &str,
        pending: &Pending,
        redirect: &str,
        wants_form: bool,
    ) -> (String, Option<String>) {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", redirect)
            .append_pair("code_verifier", &pending.verifier);
        match &self.client_secret {
            Some(secret) if !wants_form => {
                // RFC 6749 §2.3.1: each part is written as in a form.
                let part = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = STANDARD.encode(format!("{}:{}", part(&self.client_id), part(secret)));
                (form.finish(), Some(format!("Basic {pair}")))
            }
            secret => {
                form.append_pair("client_id", &self.client_id);
                if let Some(secret) = secret {
                    form.append_pair("client_secret", secret);
                }
                (form.finish(), None)
            }
        }
    }

    /// What a token says that is good, and of this sign-in (OpenID Connect Core 1.0 §3.1.3.7).
    async fn said(
        &self,
        token: &Compact<'_>,
        pending: &Pending,
        now: UnixMs,
    ) -> Result<(Map<String, Value>, String), LoginFault> {
        self.issuer.check_signed(token, now).await?;
        let text = |name: &str| token.claims.get(name).and_then(Value::as_str);
        if !text("nonce").is_some_and(|nonce| is_same(nonce, &pending.nonce)) {
            return Err(LoginFault::Claim("it is of another sign-in (nonce)"));
        }
        if text("azp").is_some_and(|authorized| authorized != self.client_id) {
            return Err(LoginFault::Claim("it is for another client (azp)"));
        }
        let subject = text("sub").filter(|subject| (1..=SUBJECT_BYTES_MAX).contains(&subject.len()));
        let subject = subject.filter(|subject| !subject.chars().any(char::is_control));
        let subject = subject.ok_or(LoginFault::Claim("it does not say whom it means (sub)"))?.to_owned();
        Ok((token.claims.clone(), subject))
    }
}

fn is_same(one: &str, other: &str) -> bool {
    !other.is_empty() && one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// The addresses out of a provider's document about itself. Whoever serves another's document does not become that one.
fn addresses_of(about: &[u8], issuer: &str) -> Result<Addresses, String> {
    let about: Value = serde_json::from_slice(about).map_err(|_| "what is there is not JSON".to_owned())?;
    if about.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err("the document names another issuer".to_owned());
    }
    let url = |name: &str| {
        let url = about.get(name).and_then(|text| Url::parse(text.as_str()?).ok()).filter(is_safe);
        url.ok_or_else(|| format!("the document names no {name} that begins with https://"))
    };
    let methods = about.get("token_endpoint_auth_methods_supported").and_then(Value::as_array);
    let has = |name: &str| methods.is_none_or(|methods| methods.iter().any(|method| method == name));
    let wants_form = !has("client_secret_basic") && has("client_secret_post");
    Ok(Addresses { authorization: url("authorization_endpoint")?, token: url("token_endpoint")?, wants_form })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_becomes_a_provider_by_its_document_or_without_encryption() {
        let about = |issuer: &str, at: &str| {
            format!(
                r#"{{"issuer":"{issuer}","authorization_endpoint":"{at}/auth","token_endpoint":"{at}/token",
                "token_endpoint_auth_methods_supported":["client_secret_post"]}}"#
            )
        };
        let read = |text: String| addresses_of(text.as_bytes(), "https://login.example");
        let good = read(about("https://login.example", "https://login.example"));
        assert!(good.is_ok_and(|addresses| addresses.wants_form));
        for bad in [
            about("https://other.example", "https://login.example"),
            about("https://login.example", "http://login.example"),
            "{}".to_owned(),
            "x".to_owned(),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
        assert!(is_same("a", "a") && !is_same("a", "b") && !is_same("", ""));
    }
}
