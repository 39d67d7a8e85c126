//! Who calls: from the credential of a request, an API key, a token or a client
//! certificate, to a caller. Nothing else of a request says for which
//! organisation it speaks (rest-api "Who calls").

pub(crate) mod callers;
pub(crate) mod cookie;
pub(crate) mod credential;
mod cross_site;
pub(crate) mod tokens;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use covey_core::ForCaller;
use covey_core::access::{Caller, CallerKind, KeyDigest, ShownCertificate};
use covey_core::id::UnixMs;
use covey_core::port::{Event, Observer, Refusal};
use sha2::{Digest, Sha256};

use crate::answers::Room;
use crate::api::Api;
use crate::asked_by::AskedBy;
use crate::connection::Connection;
use crate::door::PeerAddress;
use crate::prefixes::Insists;
use crate::problem::{Answer, Kind, Problem};
use crate::shares::{self, Account, Full, Holder, Slot};
use crate::unknown_names::UnknownNames;
use callers::{Found, KeyUse};
use credential::Credential;
use tokens::{Bearer, Identity};

/// The header in which a proxy says for whom it asks.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The digest under which an API key is kept.
///
/// A key is 256 random bits, so nothing is gained from a slow or salted hash.
#[must_use]
pub fn key_digest(clear_text: &str) -> KeyDigest {
    Sha256::digest(clear_text.as_bytes()).into()
}

/// The digest under which a token is remembered. No text in a header begins so: who shows a token as a key is nobody.
fn token_digest(text: &str) -> KeyDigest {
    Sha256::new().chain_update(b"\0token ").chain_update(text).finalize().into()
}

/// What a handler begins with: a caller whose credential is valid, and what it is answered with.
pub(crate) struct Asked {
    pub(crate) api: Arc<Api>,
    pub(crate) caller: Caller,
    /// Who the caller's token says it is, if it has one.
    pub(crate) identity: Option<Arc<Identity>>,
    /// Until when the client certificate is valid, if that is the credential.
    pub(crate) certificate_until: Option<UnixMs>,
    account: Arc<Account>,
    is_unproved_cookie: bool,
    /// Of the caller's share of requests.
    _running: Slot,
}

impl Asked {
    /// What the caller can ask for.
    pub(crate) fn engine(&self) -> ForCaller<'_> {
        self.api.engine.for_caller(&self.caller)
    }

    /// Waits for room for an answer of up to so many bytes.
    pub(crate) async fn room(&self, bytes: usize) -> Result<Room, Problem> {
        self.api.answers.room(self.caller.org, bytes).await
    }

    /// An answer that may be large: what is read out of the store, perhaps twice.
    pub(crate) async fn large<F: Future<Output = Answer>>(&self, read: impl Fn() -> F) -> Answer {
        self.api.answers.read(self.caller.org, read).await
    }

    /// Demands of a cookie that no page of another site has sent it, where something is changed by what looks as if it only read.
    ///
    /// # Errors
    /// What is not proved.
    pub(crate) fn prove_origin(&self) -> Result<(), Problem> {
        if self.is_unproved_cookie { Err(foreign_cookie()) } else { Ok(()) }
    }

    /// Takes a slot of the caller's share.
    ///
    /// # Errors
    /// A share that is full, as the caller is told.
    pub(crate) fn take(&self, kind: shares::Kind) -> Result<Slot, Problem> {
        take(&self.api, &self.account, kind)
    }
}

impl FromRequestParts<Arc<Api>> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let Admitted { caller, account, identity, certificate_until, is_unproved_cookie } =
            known(parts, api).await?;
        let running = begin(parts, api, &account)?;
        // A parameter that nobody knows, for a caller who wants to be told: now that there is one.
        let refusal = parts.extensions.get::<UnknownNames>().and_then(UnknownNames::refusal);
        let api = Arc::clone(api);
        let asked =
            Self { api, caller, identity, certificate_until, account, is_unproved_cookie, _running: running };
        refusal.map_or(Ok(asked), Err)
    }
}

/// The caller of a request, who takes nothing.
///
/// # Errors
/// What he is told whose credential is not valid, or cannot be looked up now.
pub(crate) async fn caller(parts: &Parts, api: &Api) -> Result<Caller, Problem> {
    known(parts, api).await.map(|admitted| admitted.caller)
}

/// The caller of a request to a route of others, with a slot of its share of requests.
///
/// # Errors
/// The same, and a share that is full.
pub(crate) async fn visitor(parts: &Parts, api: &Api) -> Result<(Caller, Slot), Problem> {
    let Admitted { caller, account, .. } = known(parts, api).await?;
    Ok((caller, begin(parts, api, &account)?))
}

/// Who was let in.
struct Admitted {
    caller: Caller,
    account: Arc<Account>,
    identity: Option<Arc<Identity>>,
    certificate_until: Option<UnixMs>,
    is_unproved_cookie: bool,
}

async fn known(parts: &Parts, api: &Api) -> Result<Admitted, Problem> {
    let now = api.engine.now();
    let from = address_of(parts, api, now);
    let credential = Credential::of(parts, api.proxies.as_ref(), &api.tokens, now);
    let admitted = admit(parts, api, credential.as_ref(), now, from).await;
    if let Err(problem) = &admitted {
        if problem.kind.is_of_credential() {
            api.metrics.happened(Event::Refused(Refusal::Credential));
        }
        if let Some(asked_by) = parts.extensions.get::<AskedBy>() {
            // Unless it is known who it is.
            asked_by.stranger(&credential.as_ref().map_or_else(String::new, Credential::shown), from);
        }
    }
    let found = admitted?;
    if let Some(key_use) = &found.key_use {
        key_use.note(&api.engine);
    }
    if let Some(connection) = parts.extensions.get::<Arc<Connection>>() {
        connection.called_by_somebody();
    }
    let (caller, account) = found.known;
    let certificate_until = match &credential {
        Some(Credential::Certificate { until, .. }) => Some(*until),
        _ => None,
    };
    let is_cookie =
        matches!(credential, Some(Credential::Token { is_cookie: true, .. } | Credential::Session(_)));
    Ok(Admitted {
        caller: caller.at(from),
        account,
        identity: found.identity,
        certificate_until,
        is_unproved_cookie: is_cookie && !cross_site::proves_origin(parts),
    })
}

/// Whom the credential of a request stands for, which is used from this address.
async fn admit(
    parts: &Parts,
    api: &Api,
    credential: Option<&Credential<'_>>,
    now: UnixMs,
    from: Option<IpAddr>,
) -> Result<Found, Problem> {
    match (parts.extensions.get::<Insists>(), credential) {
        (Some(Insists::OnKey), Some(Credential::Token { .. })) => {
            let detail =
                "this path takes API keys; send tokens to /api/jwt/v1, or to /api/v1, which takes both";
            return Err(Problem::new(Kind::Unauthenticated, detail));
        }
        (Some(Insists::OnKey | Insists::OnToken), Some(Credential::Session(_))) => {
            let detail = "this path takes no sessions; send them to /api/v1";
            return Err(Problem::new(Kind::Unauthenticated, detail));
        }
        (Some(Insists::OnToken), Some(Credential::Key(_) | Credential::Certificate { .. })) => {
            let detail =
                "this path takes tokens; send API keys to /api/key/v1, or to /api/v1, which takes both";
            return Err(Problem::new(Kind::Unauthenticated, detail));
        }
        _ => {}
    }
    let found = match credential {
        Some(Credential::Key(key)) => find(api, key, None).await?,
        Some(Credential::Token { text, is_cookie }) => {
            if *is_cookie {
                demand_own_page(parts, api)?;
            }
            Some(find_bearer(api, text, now).await?)
        }
        Some(Credential::Session(text)) => {
            demand_own_page(parts, api)?;
            find_session(api, text).await?
        }
        Some(Credential::Certificate { .. }) if is_cross_origin(parts, api) => {
            let detail = "a page of another site must not call with this browser's client certificate";
            return Err(Problem::new(Kind::Forbidden, detail));
        }
        Some(Credential::Certificate { text, serial_hex, .. }) => {
            find(api, text, Some(serial_hex.clone())).await?
        }
        None => None,
    };
    let found = found.ok_or_else(|| {
        let detail = "send a valid API key in x-api-key or as a bearer token, a token (JWT) as a bearer token or in a cookie, \
            sign in, or use a registered client certificate";
        Problem::new(Kind::Unauthenticated, detail)
    })?;
    let caller = &found.known.0;
    if let Some(asked_by) = parts.extensions.get::<AskedBy>() {
        asked_by.caller(caller, from);
    }
    let (is_token, bounds) = (matches!(caller.kind, CallerKind::Token), &caller.bounds);
    let refused = |of_key: &'static str, of_token: &'static str| {
        let (kind, text) =
            if is_token { (Kind::InvalidToken, of_token) } else { (Kind::Unauthenticated, of_key) };
        Err(Problem::new(kind, text))
    };
    if bounds.is_over_at(now) {
        refused("this API key has expired", "the token has expired (exp)")
    } else if !bounds.admits(from) {
        refused("this API key is not valid from this address", "the token is not valid from this address")
    } else {
        Ok(found)
    }
}

fn foreign_cookie() -> Problem {
    let detail = "a page of another site must not call with this browser's cookie; what changes something, and a \
        WebSocket, needs Origin or Sec-Fetch-Site to prove that it does not, or the token in Authorization";
    Problem::new(Kind::Forbidden, detail)
}

/// Whether a page of another site, one that is not allowed, made a browser send this request.
pub(crate) fn is_cross_origin(parts: &Parts, api: &Api) -> bool {
    cross_site::is_cross_origin(parts, &api.origins, api.people.public_url.as_ref())
}

/// A browser shows its cookie for any page: it must be one of this server, or one that is allowed.
fn demand_own_page(parts: &Parts, api: &Api) -> Result<(), Problem> {
    if cross_site::may_show_cookie(parts, &api.origins, api.people.public_url.as_ref()) {
        return Ok(());
    }
    Err(foreign_cookie())
}

/// Where a request comes from: what a proxy that is trusted says of it, else the other end of its connection.
pub(crate) fn address_of(parts: &Parts, api: &Api, now: UnixMs) -> Option<IpAddr> {
    let peer = parts.extensions.get::<Arc<Connection>>().and_then(|connection| connection.peer.as_ref());
    let trust = api.proxies.as_ref();
    if peer.zip(trust).is_some_and(|(peer, trust)| peer.is_proxy(trust, now)) {
        // The last one is of whom the proxy itself has seen; those before it are what that one says.
        let handed_on = parts.headers.get_all(FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
        return handed_on.rsplit(',').next()?.trim().parse().ok();
    }
    parts.extensions.get::<PeerAddress>().map(|address| address.0.ip())
}

/// Takes a request out of a caller's rates, and a slot of its share of requests.
fn begin(parts: &Parts, api: &Api, account: &Arc<Account>) -> Result<Slot, Problem> {
    account.follow(api.engine.server());
    let rates = account.ask();
    if let Some(asked_by) = parts.extensions.get::<AskedBy>() {
        asked_by.rates(rates);
    }
    for (left, who, holder) in [
        (rates.key, "this credential", Holder::Key),
        (rates.organisation, "this organisation", Holder::Organisation),
    ] {
        if let Some(left) = left.filter(|left| left.is_refused()) {
            let max = usize::try_from(left.per_s).unwrap_or(usize::MAX);
            api.metrics.share_was_full(Full { kind: shares::Kind::Requests, holder, max });
            let detail = format!("{who} asks more than {max} requests a second; try again later");
            return Err(Problem::new(Kind::LimitReached, detail));
        }
    }
    take(api, account, shares::Kind::Requests)
}

/// Takes a slot of the share of a caller whose credential this request does not show.
///
/// # Errors
/// A share that is full.
pub(crate) fn take_of(api: &Api, caller: &Caller, kind: shares::Kind) -> Result<Slot, Problem> {
    let account = api.shares.account(caller);
    account.follow(api.engine.server());
    take(api, &account, kind)
}

fn take(api: &Api, account: &Arc<Account>, kind: shares::Kind) -> Result<Slot, Problem> {
    account.take(kind).map_err(|full| refusal(api, full))
}

fn refusal(api: &Api, full: Full) -> Problem {
    api.metrics.share_was_full(full);
    full.into()
}

/// Whom an API key, or the text of a certificate, stands for.
async fn find(api: &Api, text: &str, serial_hex: Option<String>) -> Result<Option<Found>, Problem> {
    let now = api.engine.now();
    let looked_up = async {
        let Some(key) = api.engine.server().api_key_check(text).await? else { return Ok(None) };
        let caller = Caller::of(&key);
        let account = api.shares.account(&caller);
        let certificate = serial_hex.map(|serial_hex| ShownCertificate::of(text, serial_hex));
        let key_use = Some(KeyUse::new(key, certificate));
        Ok(Some(Found { known: (caller, account), key_use, identity: None }))
    };
    remembered(api, key_digest(text), now, looked_up).await
}

/// Whom a session stands for.
async fn find_session(api: &Api, text: &str) -> Result<Option<Found>, Problem> {
    let now = api.engine.now();
    let looked_up = async {
        let Some(session) = api.engine.server().person_session_check(text).await? else { return Ok(None) };
        let caller = Caller::of_session(&session);
        let account = api.shares.account(&caller);
        Ok(Some(Found {
            known: (caller, account),
            key_use: Some(KeyUse::of_session(session)),
            identity: None,
        }))
    };
    // Its own digest, so that a session that is shown in place of a key is none.
    remembered(api, key_digest(&format!("session {text}")), now, looked_up).await
}

/// Whom a token stands for.
async fn find_bearer(api: &Api, text: &str, now: UnixMs) -> Result<Found, Problem> {
    let checked = async {
        let Bearer { caller, identity, key } = api.tokens.bearer(text, &api.engine, now).await?;
        let account = api.shares.account(&caller);
        let key_use = key.map(|key| KeyUse::new(key, None));
        Ok(Some(Found { known: (caller, account), key_use, identity: Some(identity) }))
    };
    let found = remembered(api, token_digest(text), now, checked).await?;
    found.ok_or_else(|| Problem::new(Kind::InvalidToken, "the token is not valid"))
}

/// Who was found by a credential a moment ago, or is found now, in a slot of strangers.
async fn remembered(
    api: &Api,
    digest: KeyDigest,
    now: UnixMs,
    found: impl Future<Output = Result<Option<Found>, Problem>>,
) -> Result<Option<Found>, Problem> {
    // `now` was taken before the store is asked, so that the time that takes is counted.
    if let Some(found) = api.callers.recall(&digest, now) {
        return Ok(Some(found));
    }
    // Who was known a moment ago is nobody new: however many ask with keys that are none, he is looked up.
    let _stranger = match api.callers.has_known(&digest) {
        true => None,
        false => Some(api.shares.stranger().map_err(|full| refusal(api, full))?),
    };
    let before = api.callers.before();
    let found = found.await;
    match &found {
        Ok(Some(found)) => api.callers.remember(digest, found.clone(), now, before),
        Ok(None) => api.callers.forget_one(&digest),
        Err(problem) if problem.kind.is_of_credential() => api.callers.forget_one(&digest),
        Err(_) => {}
    }
    found
}
