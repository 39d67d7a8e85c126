//! Who asked, noted while a request is served: the audit log is told of what was refused, and to whom.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use covey_core::access::Caller;
use covey_core::audit::{AuditActor, PATH_BYTES_MAX, RefusedCall, cut_at};
use covey_core::id::OrgId;

use crate::api::Api;
use crate::problem::Problem;
use crate::rate::Rates;

/// A text that is at least so long may be a key; of a shorter one nothing is told, since little may be secret of it.
const KEY_BYTES_MIN: usize = 32;
/// How many characters are told of what somebody showed who is not known.
const SHOWN_CHARS: usize = 4;

/// Who asked, once that is known; in the extensions of a request.
#[derive(Clone, Default)]
pub(crate) struct AskedBy(Arc<Asking>);

#[derive(Default)]
struct Asking {
    who: OnceLock<Somebody>,
    rates: OnceLock<Rates>,
}

/// Of which organisation somebody is, who, and from where.
type Somebody = (Option<OrgId>, AuditActor, Option<IpAddr>);

impl AskedBy {
    /// It was this caller, whether or not it was let in.
    pub(crate) fn caller(&self, caller: &Caller, from: Option<IpAddr>) {
        // Who was noted first has asked.
        let _ = self.0.who.set((Some(caller.org), AuditActor::of(caller), from));
    }

    /// It was somebody who is not known, and showed this.
    pub(crate) fn stranger(&self, shown: &str, from: Option<IpAddr>) {
        let _ = self.0.who.set((None, AuditActor::stranger(shown), from));
    }

    /// What is left of the rates of whom it was.
    pub(crate) fn rates(&self, rates: Rates) {
        let _ = self.0.rates.set(rates);
    }

    /// Says in an answer what is left of them.
    pub(crate) fn say_rates(&self, response: &mut Response) {
        if let Some(rates) = self.0.rates.get() {
            rates.say(response.headers_mut());
        }
    }

    /// Tells the audit log of an answer, if it refuses something to somebody.
    pub(crate) fn answered(&self, api: &Api, method: &Method, route: &str, uri: &Uri, response: &Response) {
        let status = response.status();
        let is_refusal =
            matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
        let Some((org, actor, from)) = self.0.who.get().filter(|_| is_refusal) else { return };
        let why = response.extensions().get::<Problem>().map_or("", |problem| &problem.detail);
        api.engine.server().audit_refused(RefusedCall {
            org: *org,
            actor: actor.clone(),
            from: *from,
            status: status.as_u16(),
            call: format!("{method} {route}"),
            path: cut_at(uri.path(), PATH_BYTES_MAX),
            why: why.to_owned(),
        });
    }
}

/// What is told of a key that nobody has.
pub(crate) fn shown(key: &str) -> String {
    if key.len() < KEY_BYTES_MIN {
        return String::new();
    }
    let beginning: String = key.chars().take(SHOWN_CHARS).collect();
    format!("{beginning}…")
}
