//! The HTTP clients: one for TLS and one for plain HTTP, because these may go
//! to different addresses. No redirection is followed, and no proxy is used.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use covey_core::webhook::address::AddressRule;
use reqwest::Client;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

use crate::error::WebhookError;
use crate::resolver::{GuardedResolver, Names};

/// How long making a connection may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Both clients.
pub(crate) struct Clients {
    pub(crate) tls: Client,
    pub(crate) plain: Client,
}

impl Clients {
    pub(crate) fn new(
        names: &Arc<dyn Names>,
        rule: &Arc<AddressRule>,
        ca_file: Option<&Path>,
    ) -> Result<Self, WebhookError> {
        let client = |is_tls: bool, config: ClientConfig| {
            let resolver = GuardedResolver { names: Arc::clone(names), rule: Arc::clone(rule), is_tls };
            Client::builder()
                .tls_backend_preconfigured(config)
                .http1_only()
                .tcp_nodelay(true)
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .retry(reqwest::retry::never())
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .dns_resolver(resolver)
                .user_agent(concat!("covey-webhook/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(WebhookError::setup)
        };
        let plain = builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        Ok(Self { tls: client(true, tls_config(ca_file)?)?, plain: client(false, plain)? })
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, WebhookError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    builder.with_safe_default_protocol_versions().map_err(WebhookError::setup)
}

/// Those that this machine trusts are trusted, and those of the file.
fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig, WebhookError> {
    let more = ca_file.map(certificates).transpose()?.unwrap_or_default();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    match Verifier::new_with_extra_roots(more, provider) {
        Ok(verifier) => {
            let verifier = Arc::new(verifier);
            Ok(builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
        }
        Err(error) => {
            // A machine without certificates can still send to where no TLS is needed.
            tracing::warn!(%error, "webhooks over TLS trust nobody: this machine has no CA certificates");
            Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, WebhookError> {
    let pem = std::fs::read(path).map_err(|source| WebhookError::CaFile { path: path.to_owned(), source })?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    found
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| WebhookError::NoCa { path: path.to_owned() })
}
