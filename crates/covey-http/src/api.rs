//! The state that all handlers share, and how a resource adds its routes.
//! `app.rs` assembles the resources; nothing here knows one.

use std::sync::Arc;

use axum::routing::MethodRouter;
use covey_core::Engine;
use covey_core::finding::Board;
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::answers::{ANSWER_BYTES_MAX, Answers};
use crate::auth::callers::Callers;
use crate::auth::tokens::Tokens;
use crate::client_certificate::ProxyTrust;
use crate::cors::AllowedOrigins;
use crate::est::Est;
use crate::health::ReadinessLog;
use crate::metrics::Metrics;
use crate::metrics::page::Scrapes;
use crate::outgoing::Outgoing;
use crate::people::{OidcLogins, People, PublicUrl};
use crate::pki::{Pki, RevocationAuthority};
use crate::pki_forms::PkiForms;
use crate::request_id::RequestIds;
use crate::shares::Shares;
use crate::stream::open_stream::Streams;
use crate::unknown_names::KnownParameters;

/// The state that all handlers share.
pub struct Api {
    pub(crate) engine: Arc<Engine>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) callers: Callers,
    /// What tokens are taken, and issued.
    pub(crate) tokens: Arc<Tokens>,
    /// Recognises connections from a proxy that may hand on client certificates.
    pub(crate) proxies: Option<ProxyTrust>,
    /// The pages of other origins that may call from a browser.
    pub(crate) origins: AllowedOrigins,
    pub(crate) request_ids: RequestIds,
    /// How much of what is under way, and whose it is.
    pub(crate) shares: Shares,
    pub(crate) streams: Arc<Streams>,
    pub(crate) answers: Arc<Answers>,
    /// What lies in the server of answers that nobody took yet.
    pub(crate) outgoing: Arc<Outgoing>,
    /// Who reads the measurements.
    pub(crate) scrapes: Scrapes,
    pub(crate) readiness_log: ReadinessLog,
    /// What is wrong around the server, as somebody else looks for it.
    pub(crate) findings: Arc<Board>,
    /// What is said of certificates to who asks, where somebody signs that.
    pub(crate) pki: Option<Pki>,
    /// What each operation takes in its query.
    pub(crate) parameters: KnownParameters,
    /// How devices enrol, if they may.
    pub(crate) est: Option<Est>,
    /// The forms in which certificates are given beside PEM, if there are any.
    pub(crate) pki_forms: Option<Arc<dyn PkiForms>>,
    /// What signing in is made of.
    pub(crate) people: People,
}

impl Api {
    /// The state of an API over an engine. `shutdown` is the token that also stops the
    /// listeners: when it is cancelled, callers that wait for a task get their answer at once.
    #[must_use]
    pub fn new(engine: Arc<Engine>, metrics: Arc<Metrics>, shutdown: CancellationToken) -> Self {
        Self {
            engine,
            metrics,
            shutdown,
            callers: Callers::default(),
            tokens: Arc::default(),
            proxies: None,
            origins: AllowedOrigins::default(),
            request_ids: RequestIds::new(),
            shares: Shares::default(),
            streams: Arc::default(),
            answers: Answers::new(ANSWER_BYTES_MAX),
            outgoing: Arc::new(Outgoing::within(ANSWER_BYTES_MAX)),
            scrapes: Scrapes::default(),
            readiness_log: ReadinessLog::default(),
            findings: Arc::default(),
            pki: None,
            parameters: KnownParameters::default(),
            est: None,
            pki_forms: None,
            people: People::default(),
        }
    }

    /// With these forms of PKI: devices may enrol over EST, and get their certificates in other forms than PEM.
    #[must_use]
    pub fn with_pki(mut self, forms: Arc<dyn PkiForms>) -> Self {
        self.est = Some(Est::with(Arc::clone(&forms)));
        self.pki_forms = Some(forms);
        self
    }

    /// Lets a proxy hand on the certificates of its clients in the header
    /// `X-Covey-Client-Cert`. The proxy must show a certificate of its own with the
    /// common name [`PROXY_NAME`](crate::PROXY_NAME), issued under `root` for
    /// TLS clients. On every other connection the header is ignored.
    ///
    /// # Errors
    /// `root` is not a certificate.
    pub fn trusting_proxies_of(mut self, root: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        self.proxies = Some(ProxyTrust::under(root)?);
        Ok(self)
    }

    /// Bounds what all large answers may take together, in bytes, from before they are read until they were
    /// sent; those of one organisation may take half of it. As much may lie there of answers of every kind
    /// that their clients did not take.
    #[must_use]
    pub fn bounding_answers(mut self, bytes_max: usize) -> Self {
        self.answers = Answers::new(bytes_max);
        self.outgoing = Arc::new(Outgoing::within(bytes_max));
        self
    }

    /// Shows what this board has of what is wrong around the server.
    #[must_use]
    pub fn showing_findings(mut self, board: Arc<Board>) -> Self {
        self.findings = board;
        self
    }

    /// Says to who asks which certificates were revoked (`/pki/crl`, `/pki/ocsp`), signed by this authority.
    #[must_use]
    pub fn telling_revocations_by(mut self, authority: Arc<dyn RevocationAuthority>) -> Self {
        self.pki = Some(Pki::of(authority));
        self
    }

    /// Takes these tokens as credentials, and issues some.
    #[must_use]
    pub fn taking_tokens(mut self, tokens: Arc<Tokens>) -> Self {
        self.tokens = tokens;
        self
    }

    /// Lets people sign in with these providers.
    #[must_use]
    pub fn signing_in_with(mut self, logins: OidcLogins) -> Self {
        self.people.oidc = logins;
        self
    }

    /// Says at which address browsers reach the server: links, cookies and the origin of its own pages follow it.
    #[must_use]
    pub fn reached_at(mut self, url: PublicUrl) -> Self {
        self.people.public_url = Some(url);
        self
    }

    /// Lets pages of these origins call from a browser, with a key or with the
    /// client certificate of their user.
    #[must_use]
    pub fn allowing_origins(mut self, origins: AllowedOrigins) -> Self {
        self.origins = origins;
        self
    }
}

/// Routes under their path with and without a trailing slash (rest-api,
/// introduction). The OpenAPI document shows the path without it.
pub(crate) fn with_slash<const N: usize>(
    routes: [UtoipaMethodRouter<Arc<Api>>; N],
) -> OpenApiRouter<Arc<Api>> {
    routes.into_iter().fold(OpenApiRouter::default(), |router, routes| {
        let paths: Vec<String> = routes.1.paths.keys().map(|path| format!("{path}/")).collect();
        let handlers: MethodRouter<Arc<Api>> = routes.2.clone();
        let router = router.routes(routes);
        paths.into_iter().fold(router, |router, path| router.route(&path, handlers.clone()))
    })
}
