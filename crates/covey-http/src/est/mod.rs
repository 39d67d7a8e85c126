//! EST (RFC 7030, with the clarifications of RFC 8951) at `/.well-known/est`, over HTTPS alone: a device gets its first
//! certificate by an API key or by a claim, and its next one by the one that it has (docs/certificates.md).
//!
//! What is a certificate and what a request is the business of [`PkiForms`]; whether there is a new one, of the core.

mod asker;
mod form;
mod turns;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::http::HeaderValue;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use covey_core::device::{CertificateSpec, DeviceSpec, IssuedCertificate};
use covey_core::enrolment::EnrolRequest;
use covey_core::id::{Sn, UnixMs};

use crate::api::Api;
use crate::connection::Connection;
use crate::est::asker::Asker;
use crate::est::turns::Turns;
use crate::extract::RawBody;
use crate::pki_forms::PkiForms;
use crate::problem::{Answer, Kind, Problem};

/// Where EST is (RFC 8615), and the same with the label of the one CA there is (RFC 7030 §3.2.2).
const PATHS: [&str; 2] = ["/.well-known/est", "/.well-known/est/covey"];
/// What a client is told that shows no credential (RFC 7030 §3.2.3).
const BASIC_CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"covey\", charset=\"UTF-8\"");

/// Whom the certificate of a client stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EstClient {
    /// Its common name: of a device the serial number.
    pub common_name: String,
    /// The serial number of the certificate in lower-case hexadecimal digits.
    pub serial_hex: String,
    /// Its first and its last moment.
    pub valid: std::ops::RangeInclusive<UnixMs>,
    /// Whether it is that of a claim.
    pub is_claim: bool,
}

impl EstClient {
    /// In whose turn it asks: the claim, or the device with whichever of its certificates.
    fn holder(&self) -> String {
        // A serial number of a device has no colon.
        if self.is_claim { format!("claim:{}", self.serial_hex) } else { self.common_name.clone() }
    }
}

/// A request that was read, and not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EstRequest {
    /// Its common name, if it has one.
    pub common_name: Option<String>,
    /// SHA-256 of its public key.
    pub key_sha256: [u8; 32],
    /// The request in PEM.
    pub csr_pem: String,
}

/// What EST shares.
pub(crate) struct Est {
    forms: Arc<dyn PkiForms>,
    turns: Turns,
}

impl Est {
    pub(crate) fn with(forms: Arc<dyn PkiForms>) -> Self {
        Self { forms, turns: Turns::default() }
    }
}

/// The routes of EST.
pub(crate) fn router() -> Router<Arc<Api>> {
    PATHS
        .into_iter()
        .fold(Router::new(), |router, path| {
            router
                .route(&format!("{path}/cacerts"), get(certificates_of_authority))
                .route(&format!("{path}/csrattrs"), get(attributes))
                .route(&format!("{path}/simpleenroll"), post(enrol))
                .route(&format!("{path}/simplereenroll"), post(enrol_again))
        })
        .route_layer(from_fn(over_tls))
}

/// EST is spoken over TLS (RFC 7030 §3.3); and tells clients of EST what else they may show.
async fn over_tls(request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<Arc<Connection>>();
    if !connection.is_some_and(|connection| connection.is_tls) {
        return Problem::new(Kind::NotFound, "EST is spoken over HTTPS alone").into_response();
    }
    let mut response = next.run(request).await;
    if response.headers().contains_key(WWW_AUTHENTICATE) {
        response.headers_mut().append(WWW_AUTHENTICATE, BASIC_CHALLENGE);
    }
    response
}

fn est(api: &Api) -> Result<&Est, Problem> {
    api.est.as_ref().ok_or_else(|| Problem::new(Kind::NotFound, "there is nothing at this path"))
}

/// What cannot be put into its form is a fault of the authority, which its owner has to mend.
fn formed(form: Option<Vec<u8>>) -> Result<Vec<u8>, Problem> {
    form.ok_or_else(|| Problem::new(Kind::Internal, "a certificate cannot be put into its form"))
}

async fn certificates_of_authority(State(api): State<Arc<Api>>) -> Answer {
    Ok(form::certificates(&formed(est(&api)?.forms.authority())?))
}

async fn attributes(State(api): State<Arc<Api>>) -> Answer {
    Ok(form::attributes(&formed(est(&api)?.forms.attributes())?))
}

/// The first certificate of a device, by an API key or by a claim (RFC 7030 §4.2.1).
async fn enrol(State(api): State<Arc<Api>>, request: Request) -> Answer {
    let est = est(&api)?;
    let (asker, request, parts) = read(&api, est, request).await?;
    let named = || {
        let what = "the request must name the device: its serial number as the one CommonName";
        let name = request.common_name.as_deref().ok_or_else(|| Problem::new(Kind::Missing, what))?;
        Ok::<_, Problem>(Sn::parse(name)?)
    };
    let issued = match asker {
        Asker::Caller(caller, _running) => {
            let certificate = CertificateSpec::Sign { csr_pem: request.csr_pem.clone() };
            let spec = DeviceSpec { sn: Some(named()?), certificate, ..DeviceSpec::default() };
            let _turn = est.turns.take(None)?;
            let (device, issued) = api.engine.for_caller(&caller).device_register(spec).await?;
            let issued = issued.ok_or_else(|| Problem::new(Kind::Internal, "no certificate was issued"))?;
            let (device_id, serial) = (device.identity.device_id.0, &issued.record.serial_hex);
            tracing::info!(sn = %device.identity.sn, device_id, serial, key = %caller.name, "a device enrolled");
            issued
        }
        Asker::Certificate(client) if client.is_claim => {
            let sn = named()?;
            let _turn = est.turns.take(Some(client.holder()))?;
            enrol_by_claim(&api, &client, sn, request, &parts).await?
        }
        Asker::Certificate(_) => {
            let what = "a device that has a certificate asks for the next one with simplereenroll";
            return Err(Problem::new(Kind::Forbidden, what));
        }
    };
    answer(est, &issued)
}

async fn enrol_by_claim(
    api: &Api,
    client: &EstClient,
    sn: Sn,
    request: EstRequest,
    parts: &Parts,
) -> Result<IssuedCertificate, Problem> {
    let address = asker::address(parts, api).map(|address| address.to_string());
    let EstRequest { csr_pem, key_sha256, .. } = request;
    let request = EnrolRequest { sn: sn.clone(), csr_pem, key_sha256, address: address.clone() };
    let claim = &client.serial_hex;
    match api.engine.server().claim_enrol(claim, request).await {
        Ok((identity, issued)) => {
            let (device_id, serial) = (identity.device_id.0, &issued.record.serial_hex);
            tracing::info!(claim, %sn, device_id, serial, address, "a claim was used");
            Ok(issued)
        }
        Err(error) => {
            tracing::warn!(claim, %sn, address, why = %error, "a claim was refused");
            Err(error.into())
        }
    }
}

/// The next certificate of a device, by one that it has (RFC 7030 §4.2.2).
async fn enrol_again(State(api): State<Arc<Api>>, request: Request) -> Answer {
    let est = est(&api)?;
    let (asker, request, parts) = read(&api, est, request).await?;
    let Asker::Certificate(client) = asker else {
        let what = "a certificate is renewed by who shows it, and holds its key";
        return Err(Problem::new(Kind::Forbidden, what));
    };
    let sn = match Sn::parse(&client.common_name) {
        Ok(sn) if !client.is_claim => sn,
        _ => return Err(Problem::new(Kind::Forbidden, "the certificate is not that of a device")),
    };
    if request.common_name.as_deref().is_some_and(|name| name != sn.as_str()) {
        let what = "the CommonName of the request must be that of the certificate, or absent";
        return Err(Problem::new(Kind::Contradictory, what));
    }
    let _turn = est.turns.take(Some(client.holder()))?;
    let (from, shown) = (asker::address(&parts, &api), &client.serial_hex);
    let renewed = api.engine.server().device_renew(&sn, shown, &request.csr_pem, from).await;
    let (identity, issued) = renewed.inspect_err(|error| {
        tracing::warn!(%sn, shown = client.serial_hex, why = %error, "a certificate was not renewed");
    })?;
    let (device_id, serial) = (identity.device_id.0, &issued.record.serial_hex);
    tracing::info!(%sn, device_id, shown = client.serial_hex, serial, "a certificate was renewed");
    answer(est, &issued)
}

/// Who asks, and for what. Who it is is looked at first: a stranger's body is not read.
async fn read(api: &Arc<Api>, est: &Est, request: Request) -> Result<(Asker, EstRequest, Parts), Problem> {
    let (mut parts, body) = request.into_parts();
    let asker = asker::of(&mut parts, api, est).await?;
    let mut whole = Request::new(body);
    whole.extensions_mut().clone_from(&parts.extensions);
    let body = RawBody::from_request(whole, &()).await?;
    let der = form::decoded(&body.bytes())?;
    let read = est.forms.request(&der).map_err(|why| Problem::new(Kind::Invalid, why))?;
    Ok((asker, read, parts))
}

fn answer(est: &Est, issued: &IssuedCertificate) -> Answer {
    Ok(form::certificates(&formed(est.forms.first_alone(&issued.certificate_pem))?))
}
