//! Covey's certification authority: it makes and keeps the CA set, issues server and device
//! certificates, signs device requests, and says when a certificate must be renewed.
//!
//! ```text
//! ca.pem (root, 20 years, pathlen 1)
//!   └─ issuing.pem (10 years, pathlen 0)
//!        ├─ server.pem   serverAuth, 397 days, renewed when a third of its life is left
//!        ├─ device       clientAuth, CN = SN, never past the end of issuing.pem
//!        └─ claim        cmcRA: it may only enrol devices
//! ```
//!
//! Whoever verifies trusts the root; servers and devices send leaf and issuing certificate. A listener for
//! devices may trust the issuing CA too, since small TLS libraries send the leaf alone.
//!
//! What this crate does not do: it opens no connection, reads no clock (`now` always comes in as
//! an argument), writes no log (what an operator should know is returned as a [`Notice`]), and
//! knows nothing of who may register a device.

mod authority;
mod bundle;
mod certificate;
mod claim;
mod dates;
mod device;
mod error;
mod est;
mod folder;
mod key;
mod lifetime;
mod revocation;
mod server;
mod service;

pub use authority::{
    Authority, CaFiles, CaOverview, ImportedCa, ImportedDevice, Notice, imported_ca_files, imported_serial,
};
pub use bundle::{BUNDLE_PASSWORD_CHARS_MAX, certificates_der, check_bundle_password, key_der, pkcs12};
pub use claim::IssuedClaim;
pub use dates::{CertificateDates, certificate_dates};
pub use device::{
    DEVICE_REQUEST_BYTES_MAX, DEVICE_SN_CHARS_MAX, IssuedDevice, RSA_KEY_BITS_MIN, check_device_sn,
};
pub use error::PkiError;
pub use est::{ClientOfAuthority, NamedRequest, RA_PURPOSE, first_alone, named_request, request_attributes};
pub use key::PrivateKeyPem;
pub use lifetime::CertificateLifetimes;
pub use revocation::{
    CrlSpan, OCSP_CERTIFICATES_MAX, OCSP_NONCE_BYTES_MAX, OCSP_REQUEST_BYTES_MAX, OcspRefusal, OcspSpan,
    OcspStatus, RevocationError, RevocationUrls, RevokedEntry, crl_to_pem,
};
pub use server::{
    RenewalReason, ServerCertResolver, ServerCertificate, ServerNames, https_server_config,
    https_server_config_for_renewals,
};
pub use service::IssuedService;
