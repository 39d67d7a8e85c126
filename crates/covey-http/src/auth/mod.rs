//! Who calls: from the credential of a request, an API key or a client
//! certificate, to a caller. Nothing else of a request says for which
//! organisation it speaks (rest-api "Who calls").

pub(crate) mod callers;
pub(crate) mod credential;
mod cross_site;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use covey_core::ForCaller;
use covey_core::access::{Caller, KeyDigest};
use covey_core::id::UnixMs;
use covey_core::port::{Event, Observer, Refusal};
use sha2::{Digest, Sha256};

use crate::answers::Room;
use crate::api::Api;
use crate::asked_by::AskedBy;
use crate::connection::Connection;
use crate::door::PeerAddress;
use crate::problem::{Answer, Kind, Problem};
use crate::shares::{self, Account, Full, Slot};
use crate::unknown_names::UnknownNames;
use callers::{Found, KeyUse, Known};
use credential::Credential;

/// The header in which a proxy says for whom it asks.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The digest under which an API key is kept.
///
/// A key is 256 random bits, so nothing is gained from a slow or salted hash.
#[must_use]
pub fn key_digest(clear_text: &str) -> KeyDigest {
    Sha256::digest(clear_text.as_bytes()).into()
}

/// What a handler begins with: a caller whose credential is valid, and what it is answered with.
pub(crate) struct Asked {
    pub(crate) api: Arc<Api>,
    pub(crate) caller: Caller,
    account: Arc<Account>,
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
        let (caller, account) = known(parts, api).await?;
        let running = take(api, &account, shares::Kind::Requests)?;
        // A parameter that nobody knows, for a caller who wants to be told: now that there is one.
        let refusal = parts.extensions.get::<UnknownNames>().and_then(UnknownNames::refusal);
        refusal.map_or(Ok(Self { api: Arc::clone(api), caller, account, _running: running }), Err)
    }
}

/// The caller of a request, who takes nothing.
///
/// # Errors
/// What he is told whose credential is not valid, or cannot be looked up now.
pub(crate) async fn caller(parts: &Parts, api: &Api) -> Result<Caller, Problem> {
    known(parts, api).await.map(|(caller, _)| caller)
}

/// The caller of a request to a route of others, with a slot of its share of requests.
///
/// # Errors
/// The same, and a share that is full.
pub(crate) async fn visitor(parts: &Parts, api: &Api) -> Result<(Caller, Slot), Problem> {
    let (caller, account) = known(parts, api).await?;
    Ok((caller, take(api, &account, shares::Kind::Requests)?))
}

async fn known(parts: &Parts, api: &Api) -> Result<Known, Problem> {
    let refused = || api.metrics.happened(Event::Refused(Refusal::Credential));
    let now = api.engine.now();
    let asked_by = parts.extensions.get::<AskedBy>();
    let from = address_of(parts, api, now);
    let credential = Credential::of(parts, api.proxies.as_ref(), now);
    let stranger = || {
        refused();
        if let Some(asked_by) = asked_by {
            asked_by.stranger(&credential.as_ref().map_or_else(String::new, Credential::shown), from);
        }
    };
    let found = match &credential {
        Some(Credential::Key(key)) => find(api, key, None).await?,
        Some(Credential::Certificate { .. }) if cross_site::is_cross_origin(parts, &api.origins) => {
            stranger();
            let detail = "a page of another site must not call with this browser's client certificate";
            return Err(Problem::new(Kind::Forbidden, detail));
        }
        Some(Credential::Certificate { text, serial_hex }) => {
            find(api, text, Some(serial_hex.clone())).await?
        }
        None => None,
    };
    let found = found.ok_or_else(|| {
        stranger();
        let detail =
            "send a valid API key in x-api-key or as a bearer token, or use a registered client certificate";
        Problem::new(Kind::Unauthenticated, detail)
    })?;
    if let Some(asked_by) = asked_by {
        asked_by.caller(&found.known.0, from);
    }
    let bounds = &found.known.0.bounds;
    let out_of_bounds = if bounds.is_over_at(now) {
        Some(Problem::new(Kind::Unauthenticated, "this API key has expired"))
    } else if bounds.admits(from) {
        None
    } else {
        Some(Problem::new(Kind::Unauthenticated, "this API key is not valid from this address"))
    };
    if let Some(problem) = out_of_bounds {
        refused();
        return Err(problem);
    }
    found.key_use.note(&api.engine);
    if let Some(connection) = parts.extensions.get::<Arc<Connection>>() {
        connection.called_by_somebody();
    }
    let (caller, account) = found.known;
    Ok((caller.at(from), account))
}

/// Whether a page of another site, one that is not allowed, made a browser send this request.
pub(crate) fn is_cross_origin(parts: &Parts, api: &Api) -> bool {
    cross_site::is_cross_origin(parts, &api.origins)
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

/// Takes a slot of the share of a caller whose credential this request does not show.
///
/// # Errors
/// A share that is full.
pub(crate) fn take_of(api: &Api, caller: &Caller, kind: shares::Kind) -> Result<Slot, Problem> {
    take(api, &api.shares.account(caller), kind)
}

fn take(api: &Api, account: &Arc<Account>, kind: shares::Kind) -> Result<Slot, Problem> {
    account.take(kind).map_err(|full| refusal(api, full))
}

fn refusal(api: &Api, full: Full) -> Problem {
    api.metrics.share_was_full(full);
    full.into()
}

async fn find(api: &Api, text: &str, serial_hex: Option<String>) -> Result<Option<Found>, Problem> {
    let digest = key_digest(text);
    // Taken before the store is asked, so that the time that takes is counted.
    let now = api.engine.now();
    if let Some(found) = api.callers.recall(&digest, now) {
        return Ok(Some(found));
    }
    // Who was known a moment ago is nobody new: however many ask with keys that are none, he is looked up.
    let _stranger = match api.callers.has_known(&digest) {
        true => None,
        false => Some(api.shares.stranger().map_err(|full| refusal(api, full))?),
    };
    let before = api.callers.before();
    let Some(key) = api.engine.server().api_key_check(text).await? else {
        api.callers.forget_one(&digest);
        return Ok(None);
    };
    let caller = Caller::of(&key);
    let account = api.shares.account(&caller);
    let found = Found { known: (caller, account), key_use: KeyUse::new(key, serial_hex) };
    api.callers.remember(digest, found.clone(), now, before);
    Ok(Some(found))
}
