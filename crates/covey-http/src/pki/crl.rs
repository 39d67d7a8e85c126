//! The list of revoked certificates, made when it is asked for and kept until something changes.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use bytes::Bytes;
use covey_core::certificate::RevokedCount;
use covey_core::id::UnixMs;
use tokio::sync::{Mutex, OwnedMutexGuard};
use uuid::Uuid;

use crate::api::Api;
use crate::pki::strangers::Stranger;
use crate::pki::{CrlSpan, Pki};
use crate::problem::{Answer, Kind, Problem};

/// How many certificates the list may have, of which each takes about 50 bytes.
/// Limit for the list: 503 in its place, because one that lacks some would let them in; `/pki/ocsp` answers all the same.
const ENTRIES_MAX: u32 = 100_000;
/// How long a list is of use, in milliseconds.
const LIFE_MS: i64 = 7 * 24 * 3_600_000;
/// How long a certificate stays in the list after its end, in milliseconds: it must have been in one that was made after
/// that (RFC 5280 section 3.3).
const ENDED_MS: i64 = LIFE_MS;
/// After how many milliseconds a list is made anew though nothing has changed, so that most of its life is left.
const REMADE_MS: i64 = 3_600_000;
/// For how many milliseconds it is not looked whether something has changed.
const LOOK_MS: i64 = 1_000;

/// The list that was made last of each of those who sign them, by their places. Who asks while one is being made waits for
/// it.
#[derive(Default)]
pub(super) struct CrlCache(Arc<Mutex<Lists>>);

type Lists = HashMap<usize, Made>;

struct Made {
    der: Bytes,
    number: u64,
    at: UnixMs,
    /// Of what it was made, and when that was last looked at.
    of: RevokedCount,
    looked_at: UnixMs,
}

/// `GET /pki/crl`.
pub(super) async fn der(stranger: Stranger) -> Answer {
    answer("application/pkix-crl", current(stranger.api(), 0).await?)
}

/// `GET /pki/crl/…`: of the one with this identifier of its key.
pub(super) async fn of_issuer(stranger: Stranger, Path(identifier): Path<String>) -> Answer {
    let (_, pki) = stranger.pki()?;
    let place = pki.authority.crl_issuers().iter().position(|one| *one == identifier);
    let place =
        place.ok_or_else(|| Problem::new(Kind::NotFound, "no issuing CA of this deployment has this key"))?;
    answer("application/pkix-crl", current(stranger.api(), place).await?)
}

/// `GET /pki/crl.pem`.
pub(super) async fn pem(stranger: Stranger) -> Answer {
    let (_, pki) = stranger.pki()?;
    answer("application/x-pem-file", Bytes::from(pki.authority.crl_pem(&current(stranger.api(), 0).await?)))
}

/// A list that is kept for longer would let in what was revoked meanwhile.
fn answer(kind: &'static str, body: Bytes) -> Answer {
    Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], body).into_response())
}

async fn current(api: &Arc<Api>, place: usize) -> Result<Bytes, Problem> {
    // Who goes away while another's is being made waits for nothing more.
    let kept = Arc::clone(&pki_of(api)?.crl.0).lock_owned().await;
    // Who goes away while his is being made leaves it to the next: else one that takes long would never be there.
    let api = Arc::clone(api);
    let made = tokio::spawn(async move { fresh(&api, place, kept).await }).await;
    made.map_err(|error| not_made(&error.to_string())).flatten()
}

/// The list that is kept, if it is as it would be made now, or a new one.
async fn fresh(api: &Api, place: usize, mut kept: OwnedMutexGuard<Lists>) -> Result<Bytes, Problem> {
    let pki = pki_of(api)?;
    let now = api.engine.now();
    let is_within = |since: UnixMs, ms| (0..ms).contains(&now.since_ms(since));
    if let Some(made) = kept.get(&place).filter(|made| is_within(made.looked_at, LOOK_MS)) {
        return Ok(made.der.clone());
    }
    let ending_from = now.plus_ms(-ENDED_MS);
    // Before the list is read: what is revoked in between is in it, and it is made once more.
    let of = api.engine.server().revoked_count(ending_from).await?;
    if of.count > i64::from(ENTRIES_MAX) {
        return Err(too_many());
    }
    if let Some(made) = kept.get_mut(&place).filter(|made| made.of == of && is_within(made.at, REMADE_MS)) {
        made.looked_at = now;
        return Ok(made.der.clone());
    }
    let revoked = api.engine.server().revoked(ending_from, ENTRIES_MAX + 1).await?;
    if revoked.len() > ENTRIES_MAX as usize {
        return Err(too_many());
    }
    let number = number(now).max(kept.get(&place).map_or(0, |made| made.number + 1));
    let span = CrlSpan { number, this_update: now, next_update: now.plus_ms(LIFE_MS) };
    let authority = Arc::clone(&pki.authority);
    let made = tokio::task::spawn_blocking(move || authority.crl(&revoked, span, place)).await;
    let der = made.map_err(|error| error.to_string()).flatten().map_err(|problem| not_made(&problem))?;
    let der = Bytes::from(der);
    kept.insert(place, Made { der: der.clone(), number, at: now, of, looked_at: now });
    Ok(der)
}

fn pki_of(api: &Api) -> Result<&Pki, Problem> {
    api.pki.as_ref().ok_or_else(|| Problem::new(Kind::NotFound, "there is nothing at this path"))
}

fn too_many() -> Problem {
    tracing::error!(
        most = ENTRIES_MAX,
        "more certificates are revoked than the list may have: none is given out"
    );
    let detail = format!("more than {ENTRIES_MAX} certificates are revoked: ask about each at /pki/ocsp");
    Problem::new(Kind::Unavailable, detail)
}

fn not_made(problem: &str) -> Problem {
    tracing::error!(problem, "the list of revoked certificates was not made");
    Problem::new(Kind::Internal, "the list of revoked certificates could not be made")
}

/// A later list has a larger number, also of another server and after a restart: the time, and where two servers make one
/// in the same millisecond, most probably another end.
fn number(now: UnixMs) -> u64 {
    let end = Uuid::new_v4().as_u64_pair().1 & 0xffff;
    (u64::try_from(now.0).unwrap_or(0) << 16) | end
}
