//! TLS to a broker that is not part of the process: which certificates are
//! trusted, and what this server shows of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::BuilderVerifierExt;

/// The files of a client of a broker. They are read at each connect, so that
/// they may be renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificates that the broker's must lead to, in PEM; these alone are trusted.
    pub ca: PathBuf,
    /// The certificate that this server shows, then its issuing CA, in PEM.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}

/// Why TLS to a broker cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the kind that is needed.
    #[error("cannot use {path} for TLS to the broker ({problem}); it must hold {must}")]
    File {
        /// The file.
        path: PathBuf,
        /// What it must hold.
        must: &'static str,
        /// What was wrong.
        problem: String,
    },
    /// The certificate and the key do not go together, or are of an unknown kind.
    #[error("cannot set up TLS to the broker")]
    Setup(#[from] rustls::Error),
}

/// What a client of a broker is to do in a handshake. Without files, the
/// certificates that this machine trusts are trusted and none is shown.
pub(crate) fn client_config(files: Option<&TlsFiles>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let Some(files) = files else { return Ok(builder.with_platform_verifier()?.with_no_client_auth()) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate)?;
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| unusable(&files.key, "a private key in PEM", &error))?;
    Ok(builder.with_root_certificates(roots).with_client_auth_cert(certificates(&files.certificate)?, key)?)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error: &dyn std::fmt::Display| unusable(path, "certificates in PEM", error);
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(&error))?;
    if found.is_empty() { Err(wrong(&"there is none in it")) } else { Ok(found) }
}

fn unusable(path: &Path, must: &'static str, problem: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), must, problem: problem.to_string() }
}

/// What a client is given that will not speak TLS.
pub(crate) fn no_tls() -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}
