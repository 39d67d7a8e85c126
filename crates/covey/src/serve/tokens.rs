//! Tokens, as the settings have them: the issuers that are trusted and the way to their keys, and this server's own key.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use covey_core::Engine;
use covey_core::webhook::address::AddressRule;
use covey_http::{OidcLogin, OidcLogins, Tokens};
use covey_pki::Authority;
use covey_token::{Exchange, Fetch, Fetched, Issuer, KEY_SET_BYTES_MAX, Login, keep_fresh};
use covey_webhook::{GuardedClient, Method};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::fault;
use crate::serve::data_dir::DataDir;
use crate::serve::token_key::OwnKey;
use crate::settings::{OidcProvider, Settings};

/// How often the keys of other servers are read, and it is looked whether this server's own is due.
const LOOK_EACH: Duration = Duration::from_secs(60);

/// Documents over HTTPS.
struct Documents(Arc<GuardedClient>);

impl Fetch for Documents {
    fn get(&self, url: Url) -> Fetched {
        let client = Arc::clone(&self.0);
        Box::pin(async move {
            let answer = client.get(url.as_str(), "application/json", KEY_SET_BYTES_MAX + 1).await?;
            match answer.status {
                200 => Ok(answer.body),
                status => Err(format!("{} answers {status}", url.host_str().unwrap_or_default())),
            }
        })
    }
}

impl Exchange for Documents {
    fn post_form(&self, url: Url, form: String, authorization: Option<String>) -> Fetched {
        let client = Arc::clone(&self.0);
        Box::pin(async move {
            let mut headers = vec![
                ("content-type", "application/x-www-form-urlencoded".to_owned()),
                ("accept", "application/json".to_owned()),
            ];
            headers.extend(authorization.map(|authorization| ("authorization", authorization)));
            let answer = client.send(Method::Post, url.as_str(), &headers, form.into_bytes()).await?;
            match answer.status {
                200 => Ok(answer.body),
                // What it says may have what was sent.
                status => Err(format!("{} answers {status} to a code", url.host_str().unwrap_or_default())),
            }
        })
    }
}

/// What keeps tokens going.
pub struct TokenWork {
    tokens: Arc<Tokens>,
    issuers: Vec<Arc<Issuer>>,
    logins: Option<OidcLogins>,
    documents: Arc<Documents>,
    key: OwnKey,
}

/// Makes it ready. Keys in files are read at once; those of others when the server runs, which may come before them.
pub async fn open(settings: &Settings, data: &DataDir, authority: &Authority) -> Result<TokenWork> {
    let issuers = settings.token_issuers.iter().map(|issuer| issuer.config().map(Issuer::new));
    let issuers: Vec<_> = issuers.collect::<Result<_, _>>().map_err(fault::setup)?;
    // The operator names the URLs, so they may lead anywhere.
    let rule = AddressRule::parse(["all"]).map_err(fault::setup)?;
    let client = GuardedClient::new(rule, settings.token_ca.as_deref()).map_err(fault::setup)?;
    let documents = Arc::new(Documents(Arc::new(client)));
    let logins = settings.oidc_logins.iter().map(login).collect::<Result<Vec<_>>>()?;
    for issuer in issuers.iter().filter(|issuer| issuer.has_file()) {
        let read = issuer.refresh(&*documents).await;
        read.map_err(|error| {
            fault::setup(format!("the keys of the token issuer {}: {error}", issuer.name()))
        })?;
    }
    let deployment = format!("urn:covey:{}", covey_discovery::fingerprint(authority.root_der()));
    let tokens = Tokens::new(issuers.clone(), Some(deployment), settings.token_cookie.as_deref());
    let tokens = Arc::new(tokens.map_err(fault::setup)?);
    let key = OwnKey::new(settings.server_name.clone(), data.pki_path());
    let mut issuers = issuers;
    issuers.extend(logins.iter().map(|login| Arc::clone(login.login.issuer())));
    let logins = Some(OidcLogins::new(logins, Arc::clone(&documents) as _));
    Ok(TokenWork { tokens, issuers, logins, documents, key })
}

/// A secret that a provider has given, in a file that nobody else may read.
fn client_secret(path: &Path) -> Result<String> {
    let failed = |error| fault::setup(format!("cannot read {}: {error}", path.display()));
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let shown = path.display();
        return Err(fault::setup(format!("{shown} must be readable by its owner alone: chmod 600 {shown}")));
    }
    Ok(std::fs::read_to_string(path).map_err(failed)?.trim().to_owned())
}

/// A provider with which people sign in.
fn login(provider: &OidcProvider) -> Result<OidcLogin> {
    let secret = provider.client_secret_file.as_deref().map(client_secret).transpose()?;
    let issuer = Issuer::new(provider.config().map_err(fault::setup)?);
    let about = provider.about().map_err(fault::setup)?;
    let login = Login::new(issuer, provider.client_id.clone(), secret, provider.scope().to_owned(), about);
    let roles = provider.roles().map_err(fault::setup)?;
    Ok(OidcLogin { name: provider.name.clone(), title: provider.title(), login, roles })
}

impl TokenWork {
    /// The providers with which people sign in; the first time.
    pub fn logins(&mut self) -> OidcLogins {
        self.logins.take().unwrap_or_default()
    }

    /// What the HTTP server takes and issues.
    pub fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens)
    }

    /// Begins, until it is told to stop.
    pub async fn start(self, engine: &Arc<Engine>, running: &TaskTracker, stop: &CancellationToken) {
        for issuer in &self.issuers {
            let documents: Arc<dyn Fetch> = self.documents.clone();
            running.spawn(keep_fresh(Arc::clone(issuer), documents, stop.clone()));
        }
        self.look(engine).await;
        let (engine, stop) = (Arc::clone(engine), stop.clone());
        running.spawn(async move {
            let looking = async {
                loop {
                    sleep(LOOK_EACH).await;
                    self.look(&engine).await;
                }
            };
            stop.run_until_cancelled(looking).await;
        });
    }

    /// Looks after this server's own key, and reads those of all servers.
    async fn look(&self, engine: &Engine) {
        if let Err(error) = self.key.look(&self.tokens, engine).await {
            tracing::warn!(%error, "this server has no new key to sign tokens with; trying again");
        }
        if let Err(error) = self.tokens.read_own_keys(engine).await {
            tracing::warn!(%error, "the keys with which servers sign tokens were not read; trying again");
        }
    }
}
