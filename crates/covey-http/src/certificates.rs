//! `/api/v1/certificates`: the certificates that devices have, and revoking them.

use std::str::FromStr;
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use covey_api::{Certificate, DeviceCertificatesRevoked, RevocationNew};
use covey_core::certificate::{CertificateFilter, CertificateState, RevocationReason};
use covey_core::error::{Error, Result};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{BodyProblems, GuardProblems, InvalidProblem, NotFoundProblem, ScanProblems};
use crate::extract::{Parameters, RawBody, Segment};
use crate::problem::Answer;
use crate::wire::{DeviceNumber, Moment, Whole, from_text, json, page};

/// How many certificates a page has unless asked for otherwise.
const SIZE_DEFAULT: u32 = 100;
/// The header that tells how many there are on all pages.
const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");
/// Bytes of a serial number at most (RFC 5280 section 4.1.2.2).
/// Limit for each request: 422.
const SERIAL_BYTES_MAX: usize = 20;

/// The routes of certificates.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([
        routes!(certificate_list),
        routes!(certificate_get),
        routes!(certificate_revoke),
        routes!(device_certificates_revoke),
    ])
}

/// The serial number of a certificate: hexadecimal digits in either case, also two by two with colons, as tools show it. Of
/// one of a CA of others, what it is listed under.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Serial(String);

impl FromStr for Serial {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "must be 1 to 20 bytes in hexadecimal digits";
        if let Some((id, sha256)) = text.split_once('~') {
            let is_hex = |text: &str, digits| {
                text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            };
            return match is_hex(id, 32) && is_hex(sha256, 64) {
                true => Ok(Self(text.to_owned())),
                false => Err("must be, of a CA of others, what the certificate is listed under"),
            };
        }
        // Before anything is copied: each byte may have a colon.
        if text.len() > 3 * (SERIAL_BYTES_MAX + 1) {
            return Err(expected);
        }
        if text.contains(':') && text.split(':').any(|byte| byte.len() != 2) {
            return Err(expected);
        }
        let digits: String = text.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
        let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let even = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits };
        // DER puts a zero byte before a number whose first bit is set; some tools show it.
        let bare = even.strip_prefix("00").filter(|rest| !rest.is_empty()).unwrap_or(&even);
        if is_hex && bare.len() <= 2 * SERIAL_BYTES_MAX { Ok(Self(bare.to_owned())) } else { Err(expected) }
    }
}

/// Which certificates are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CertificateListQuery {
    /// Those of the device with this number; of those that had it, too.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    device_id: Option<DeviceNumber>,
    /// Those of the device with this serial number; of those that had it, too.
    #[serde(default)]
    #[param(nullable = false)]
    sn: Option<String>,
    /// The one with this serial number of its own, in hexadecimal digits.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = String, required = false, nullable = false, pattern = r"^([0-9a-f]{32}~[0-9a-f]{64}|0{0,2}[0-9a-fA-F]{1,40}|(00:)?[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){0,19})$")]
    serial: Option<Serial>,
    /// Those in this state.
    #[serde(default)]
    #[param(value_type = covey_api::CertificateStateName, required = false, nullable = false)]
    state: Option<String>,
    /// Those that end before this instant: Unix seconds or RFC 3339.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = Moment, inline, required = false)]
    expires_before: Option<Moment>,
    /// The number of the page.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<Whole>,
    /// How many certificates a page has.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 100)]
    size: Option<Whole>,
}

impl CertificateListQuery {
    fn filter(&self) -> Result<CertificateFilter> {
        let state = self.state.as_deref().map(|name| {
            let invalid = Error::invalid("state", "must be valid, expired or revoked");
            CertificateState::from_name(name).ok_or(invalid)
        });
        Ok(CertificateFilter {
            device_id: self.device_id.map(|DeviceNumber(id)| id.0),
            sn: self.sn.clone(),
            serial_hex: self.serial.as_ref().map(|Serial(serial)| serial.clone()),
            state: state.transpose()?,
            expires_before: self.expires_before.map(|Moment(at)| at),
        })
    }
}

/// A list of the certificates of devices, those that end first in front
#[utoipa::path(
    get, path = "/api/v1/certificates", tag = "certificates",
    params(CertificateListQuery),
    responses(
        (status = 200, description = "The certificates of the page.", body = Vec<Certificate>,
            headers(("X-Total-Count" = u64, description = "How many there are on all pages."))),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
async fn certificate_list(asked: Asked, Parameters(query): Parameters<CertificateListQuery>) -> Answer {
    let page = page(query.page, query.size, SIZE_DEFAULT);
    let found = asked.engine().certificate_list(query.filter()?, page).await?;
    let now = asked.api.engine.now();
    let items: Vec<_> = found.items.iter().map(|certificate| Certificate::of(certificate, now)).collect();
    let mut response = json(StatusCode::OK, &items);
    response.headers_mut().insert(TOTAL_COUNT, HeaderValue::from(found.total));
    Ok(response)
}

/// One certificate of a device
#[utoipa::path(
    get, path = "/api/v1/certificates/{serial}", tag = "certificates",
    params(("serial" = String, Path, description = "Its serial number in hexadecimal digits.", pattern = r"^([0-9a-f]{32}~[0-9a-f]{64}|0{0,2}[0-9a-fA-F]{1,40}|(00:)?[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){0,19})$")),
    responses(
        (status = 200, description = "The certificate.", body = Certificate),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn certificate_get(asked: Asked, Segment(Serial(serial)): Segment<Serial>) -> Answer {
    let certificate = asked.engine().certificate(&serial).await?;
    Ok(json(StatusCode::OK, &Certificate::of(&certificate, asked.api.engine.now())))
}

/// Revokes a certificate: who shows it is let in no more, and a connection that it stands for is closed
///
/// Other certificates of the device stay valid; but with the reason `key_compromise` those that were got by showing this one
/// (renewed), and by showing these, are revoked, too. A certificate that stands for an API key loses its rights. One that was
/// revoked before stays as it is. It cannot be taken back.
#[utoipa::path(
    post, path = "/api/v1/certificates/{serial}/revoke", tag = "certificates",
    params(("serial" = String, Path, description = "Its serial number in hexadecimal digits.", pattern = r"^([0-9a-f]{32}~[0-9a-f]{64}|0{0,2}[0-9a-fA-F]{1,40}|(00:)?[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){0,19})$")),
    request_body(content = RevocationNew, content_type = "application/json",
        example = json!({"reason": "key_compromise"})),
    responses(
        (status = 200, description = "The certificate is revoked.", body = Certificate),
        BodyProblems, NotFoundProblem, GuardProblems,
    )
)]
async fn certificate_revoke(asked: Asked, Segment(Serial(serial)): Segment<Serial>, body: RawBody) -> Answer {
    let certificate = asked.engine().certificate_revoke(&serial, reason(&body.read()?)?).await?;
    // It may have stood for a key.
    asked.api.callers.forget();
    Ok(json(StatusCode::OK, &Certificate::of(&certificate, asked.api.engine.now())))
}

/// Revokes all certificates of a device, which stays registered
#[utoipa::path(
    post, path = "/api/v1/devices/{device_id}/revoke", tag = "certificates",
    params(("device_id" = i64, Path, description = "The device's number.", minimum = 1, maximum = 9_007_199_254_740_991_i64)),
    request_body(content = RevocationNew, content_type = "application/json",
        example = json!({"reason": "key_compromise"})),
    responses(
        (status = 200, description = "The certificates are revoked.", body = DeviceCertificatesRevoked),
        BodyProblems, NotFoundProblem, GuardProblems,
    )
)]
async fn device_certificates_revoke(
    asked: Asked,
    Segment(DeviceNumber(id)): Segment<DeviceNumber>,
    body: RawBody,
) -> Answer {
    let revoked = asked.engine().device_certificates_revoke(id, reason(&body.read()?)?).await?;
    asked.api.callers.forget();
    Ok(json(StatusCode::OK, &DeviceCertificatesRevoked::of(&revoked)))
}

fn reason(request: &RevocationNew) -> Result<RevocationReason> {
    let Some(name) = request.reason.as_deref() else { return Ok(RevocationReason::Unspecified) };
    let invalid = Error::invalid(
        "reason",
        "must be unspecified, key_compromise, ca_compromise, affiliation_changed, superseded, cessation_of_operation, \
         privilege_withdrawn or aa_compromise",
    );
    RevocationReason::from_name(name).ok_or(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_read_as_tools_show_it() {
        let read = |text: &str| text.parse::<Serial>().map(|Serial(serial)| serial);
        assert_eq!(read("5F0C"), Ok("5f0c".to_owned()));
        assert_eq!(read("5F:0C"), Ok("5f0c".to_owned()));
        assert_eq!(read("00:8f"), Ok("8f".to_owned()), "the zero byte of DER");
        assert_eq!(read("f0c"), Ok("0f0c".to_owned()));
        assert_eq!(read("00"), Ok("00".to_owned()));
        assert_eq!(read(&"7f".repeat(20)), Ok("7f".repeat(20)));
        assert_eq!(read(&format!("0{}", "7f".repeat(20))), Ok("7f".repeat(20)));
        let imported = format!("{}~{}", "a1".repeat(16), "b2".repeat(32));
        assert_eq!(read(&imported), Ok(imported.clone()));
        let long = "7f".repeat(21);
        let upper = imported.to_uppercase();
        for wrong in
            ["", ":", "0x1f", "xyz", "5:f", "5f:", "5f0c:01", "1~2", &long, &upper, &":".repeat(1_000_000)]
        {
            assert!(read(wrong).is_err());
        }
    }
}
