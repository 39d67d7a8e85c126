//! Questions whether certificates are good (RFC 6960 appendix A), with the request as the body or in the path.

use std::sync::Arc;

use axum::body::{HttpBody as _, to_bytes};
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::api::Api;
use crate::extract;
use crate::pki::strangers::Stranger;
use crate::problem::{Answer, Kind, Problem};

/// How long an answer may be relied on, in milliseconds. What is revoked is told at once to who asks again.
const LIFE_MS: i64 = 10 * 60_000;
/// Longest request as a body, in bytes.
/// Limit for each question: it is refused as malformed.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// Longest request in a path, in characters.
/// Limit for each question: 413.
const PATH_CHARS_MAX: usize = 4_096;

/// With padding or without: it is told of clients that leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `POST /pki/ocsp`. Who is slow to send it takes the place of nobody meanwhile.
pub(super) async fn posted(State(api): State<Arc<Api>>, request: Request) -> Answer {
    let (mut parts, body) = request.into_parts();
    if body.size_hint().lower() > extract::BODY_BYTES_MAX as u64 {
        return Err(Problem::new(Kind::TooLarge, "the body must be at most 262144 bytes"));
    }
    // What is longer than any request, or ends too early, is none, and is told so.
    let body = to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
    let stranger = Stranger::from_request_parts(&mut parts, &api).await?;
    told(&stranger, &body).await
}

/// `GET /pki/ocsp/…`: the request in Base64.
pub(super) async fn in_path(stranger: Stranger, Path(text): Path<String>) -> Answer {
    if text.len() > PATH_CHARS_MAX {
        return Err(Problem::new(Kind::TooLarge, "the request in the path must be at most 4096 characters"));
    }
    // What is not Base64 is no request, and is told so.
    told(&stranger, &BASE64.decode(&text).unwrap_or_default()).await
}

async fn told(stranger: &Stranger, request: &[u8]) -> Answer {
    let (api, pki) = stranger.pki()?;
    let now = api.engine.now();
    let answer = match pki.authority.ocsp_serials(request) {
        Err(refusal) => refusal,
        Ok(serials_hex) => match api.engine.server().certificates_known(serials_hex).await {
            Ok(known) => pki.authority.ocsp_answer(request, known, now, now.plus_ms(LIFE_MS)),
            Err(error) => {
                tracing::warn!(%error, "a question about certificates was not answered: the store failed");
                pki.authority.ocsp_try_later()
            }
        },
    };
    Ok(([(CONTENT_TYPE, "application/ocsp-response"), (CACHE_CONTROL, "no-cache")], answer).into_response())
}
