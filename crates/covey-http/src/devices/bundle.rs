//! In which form a device gets its certificate and its key.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use covey_api::{BundleWanted, DeviceDer, DeviceNew, DeviceRegistered};
use covey_core::device::IssuedCertificate;

use crate::api::Api;
use crate::pki_forms::{Credentials, CredentialsDer, PkiForms};
use crate::problem::{Kind, Problem};

/// How long a password is that is made here, in characters: hexadecimal digits.
const PASSWORD_CHARS: usize = 32;

/// The form that is wanted, checked before a device is registered.
pub(super) enum Bundle {
    Pem,
    Pkcs12 { forms: Arc<dyn PkiForms>, password: String, is_made: bool },
    Der(Arc<dyn PkiForms>),
}

impl Bundle {
    pub(super) fn of(body: &DeviceNew, api: &Api) -> Result<Self, Problem> {
        let bundle = body.bundle.unwrap_or_default();
        let contradiction = |field, what| Err(Problem::of_field(Kind::Contradictory, field, what));
        if body.bundle_password.is_some() && bundle != BundleWanted::Pkcs12 {
            return contradiction("bundle_password", "goes with the bundle pkcs12 alone");
        }
        if bundle == BundleWanted::Pem {
            return Ok(Self::Pem);
        }
        if body.certificate.is_some_and(|wanted| wanted == covey_api::CertificateWanted::None) {
            return contradiction("bundle", "must not be given for a device that gets no certificate");
        }
        let forms = api.pki_forms.clone().ok_or_else(|| failed("this server has no other form than PEM"))?;
        if bundle == BundleWanted::Der {
            return Ok(Self::Der(forms));
        }
        if body.csr.is_some() {
            return contradiction("bundle", "must not be pkcs12 beside a csr: the key is not known here");
        }
        let given = body.bundle_password.clone();
        let is_made = given.is_none();
        let password = given.unwrap_or_else(|| made_password(api));
        forms.check_password(&password).map_err(|what| Problem::invalid("bundle_password", &what))?;
        Ok(Self::Pkcs12 { forms, password, is_made })
    }

    /// Fills in what is given of a certificate that was issued.
    pub(super) async fn give<'a>(
        self,
        answer: &mut DeviceRegistered<'a>,
        sn: &str,
        issued: &'a IssuedCertificate,
    ) -> Result<(), Problem> {
        answer.certificate_pem = Some(Cow::Borrowed(issued.certificate_pem.as_str()));
        answer.ca_pem = Some(Cow::Borrowed(issued.ca_pem.as_str()));
        let key = issued.private_key_pem.as_deref();
        match self {
            Self::Pem => answer.private_key_pem = key.map(Cow::Borrowed),
            Self::Pkcs12 { forms, password, is_made } => {
                let (issued, sn) = (issued.clone(), sn.to_owned());
                let locked = tokio::task::spawn_blocking(move || {
                    forms.pkcs12(credentials(&sn, &issued), &password).map(|locked| (locked, password))
                });
                let locked = locked.await.ok().flatten();
                let (locked, password) =
                    locked.ok_or_else(|| failed("the certificate cannot be put into PKCS #12"))?;
                answer.pkcs12 = Some(Cow::Owned(STANDARD.encode(locked)));
                answer.bundle_password = is_made.then_some(Cow::Owned(password));
            }
            Self::Der(forms) => {
                let der = forms.der(credentials(sn, issued));
                let der = der.ok_or_else(|| failed("the certificate cannot be put into DER"))?;
                answer.der = Some(in_base64(&der));
            }
        }
        Ok(())
    }
}

fn failed(what: &'static str) -> Problem {
    Problem::new(Kind::Internal, what)
}

fn made_password(api: &Api) -> String {
    let digits = api.engine.api_key_text();
    digits.chars().rev().filter(char::is_ascii_alphanumeric).take(PASSWORD_CHARS).collect()
}

fn credentials<'a>(sn: &'a str, issued: &'a IssuedCertificate) -> Credentials<'a> {
    Credentials {
        sn,
        certificate_pem: &issued.certificate_pem,
        ca_pem: &issued.ca_pem,
        private_key_pem: issued.private_key_pem.as_deref(),
    }
}

fn in_base64(der: &CredentialsDer) -> DeviceDer {
    DeviceDer {
        certificate: STANDARD.encode(&der.certificate),
        issuer: STANDARD.encode(&der.issuer),
        ca: STANDARD.encode(&der.ca),
        private_key: der.private_key.as_ref().map(|key| STANDARD.encode(key)),
    }
}
