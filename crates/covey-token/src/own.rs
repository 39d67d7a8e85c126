//! The tokens that servers of a deployment issue themselves: signed with ES256 by a key of the server, and taken by every
//! server that knows its public key.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use covey_core::access::Rights;
use covey_core::id::{OrgId, UnixMs};
use covey_core::token::{MadeFrom, TOKEN_KEYS_MAX};
use jsonwebtoken::{EncodingKey, Header};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::compact::Compact;
use crate::fault::TokenFault;
use crate::instants::Instants;
use crate::issuer::has_audience;
use crate::key_set::KeySet;

/// The claim with the number of the API key from which a token was made.
const KEY_CLAIM: &str = "covey_key";
/// The claim with the number of the session in which a token was made.
const SESSION_CLAIM: &str = "covey_session";

/// How much the clocks of two servers of a deployment differ, in milliseconds, at most.
const CLOCKS_MS: i64 = 1_000;

/// A private key that signs tokens.
pub struct SigningKey {
    id: String,
    jwk: Value,
    key: EncodingKey,
}

/// What a token shall say.
#[derive(Clone, Debug)]
pub struct OwnToken<'a> {
    /// The deployment, as issuer and audience.
    pub deployment: &'a str,
    /// From what it is made.
    pub made_from: MadeFrom,
    /// What that is called, or who made it.
    pub name: &'a str,
    /// Its organisation.
    pub org: OrgId,
    /// With which rights.
    pub rights: Rights,
    /// From when.
    pub now: UnixMs,
    /// Until when.
    pub expires_at: UnixMs,
    /// A name that no other token has.
    pub id: String,
}

/// What a token says that one of the servers has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnVerified {
    /// From what it was made.
    pub made_from: MadeFrom,
    /// What it may do at most.
    pub rights: Rights,
    /// Until when.
    pub expires_at: UnixMs,
}

impl SigningKey {
    /// A new one, as PEM, for its owner alone. None if the system gives no randomness.
    #[must_use]
    pub fn generate_pem() -> Option<String> {
        let der =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).ok()?;
        let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
        for line in STANDARD.encode(der.as_ref()).as_bytes().chunks(64) {
            let _ = writeln!(pem, "{}", str::from_utf8(line).unwrap_or_default());
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Some(pem)
    }

    /// Reads one that was made so.
    #[must_use]
    pub fn read_pem(pem: &str) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der()).ok()?;
        let point = pair.public_key().as_ref().strip_prefix(&[4])?;
        let (x, y) = point.split_at_checked(32)?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // RFC 7638 §3.
        let thumbprint = Sha256::digest(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#));
        let id = URL_SAFE_NO_PAD.encode(thumbprint);
        let jwk =
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "alg": "ES256", "kid": id});
        Some(Self { id, jwk, key: EncodingKey::from_ec_der(der.secret_pkcs8_der()) })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key, as a JWK.
    #[must_use]
    pub fn jwk(&self) -> String {
        self.jwk.to_string()
    }

    /// Signs a token; none if the system gives no randomness.
    #[must_use]
    pub fn sign(&self, token: &OwnToken<'_>) -> Option<String> {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(jsonwebtoken::Algorithm::ES256) };
        let (claim, name, number) = match token.made_from {
            MadeFrom::Key(number) => (KEY_CLAIM, "key", number),
            MadeFrom::Session(number) => (SESSION_CLAIM, "session", number),
        };
        let claims = json!({
            "iss": token.deployment,
            "aud": token.deployment,
            "sub": format!("{name}:{number}"),
            claim: number,
            "orgId": token.org.0,
            "name": token.name,
            "rights": token.rights.names().collect::<Vec<_>>(),
            "iat": token.now.seconds(),
            "exp": token.expires_at.seconds(),
            "jti": token.id,
        });
        jsonwebtoken::encode(&header, &claims, &self.key).ok()
    }
}

/// The public keys of all servers of a deployment.
pub struct OwnKeys {
    deployment: String,
    keys: Mutex<Arc<KeySet>>,
}

impl OwnKeys {
    /// Of a deployment, which is issuer and audience of its tokens.
    #[must_use]
    pub fn new(deployment: String) -> Self {
        Self { deployment, keys: Mutex::default() }
    }

    /// The name of the deployment.
    #[must_use]
    pub fn deployment(&self) -> &str {
        &self.deployment
    }

    /// Takes these keys in place of those before: as many as a deployment may have.
    pub fn set<'a>(&self, jwks: impl IntoIterator<Item = &'a str>) {
        // What is no JSON is passed over like what is no key.
        let jwks = jwks.into_iter().map(|jwk| serde_json::from_str(jwk).unwrap_or_default());
        let set = KeySet::of_jwks(jwks, usize::try_from(TOKEN_KEYS_MAX).unwrap_or(usize::MAX));
        let passed_over = set.passed_over();
        let before = std::mem::replace(&mut *self.held(), Arc::new(set));
        if passed_over > before.passed_over() {
            tracing::warn!(
                passed_over,
                "keys with which servers sign tokens cannot be used, and are passed over"
            );
        }
    }

    fn held(&self) -> MutexGuard<'_, Arc<KeySet>> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a token says that it is of this deployment.
    #[must_use]
    pub fn has_issued(&self, token: &Compact<'_>) -> bool {
        token.issuer() == Some(&self.deployment)
    }

    /// Checks a token of this deployment.
    ///
    /// # Errors
    /// Why it is not taken; [`TokenFault::Key`] if its key is not among those that were set.
    pub fn check(&self, token: &Compact<'_>, now: UnixMs) -> Result<OwnVerified, TokenFault> {
        let algorithm = token.algorithm()?;
        if !self.has_issued(token) {
            return Err(TokenFault::Issuer);
        }
        if !has_audience(&token.claims, &self.deployment) {
            return Err(TokenFault::Audience);
        }
        // All servers of a deployment have the clock of its store, each as it heard it last: that may be ahead by a little.
        let expires_at = Instants::of(&token.claims)?.check(now, CLOCKS_MS)?.plus_ms(-CLOCKS_MS);
        if expires_at <= now {
            return Err(TokenFault::Expired);
        }
        let id = token.key_id()?.ok_or(TokenFault::Key)?;
        let keys = Arc::clone(&self.held());
        if !keys.key(algorithm, Some(id)).ok_or(TokenFault::Key)?.has_signed(token) {
            return Err(TokenFault::Signature);
        }
        let number = |claim| token.claims.get(claim).and_then(Value::as_i64);
        let made_from = match (number(KEY_CLAIM), number(SESSION_CLAIM)) {
            (Some(key), None) => MadeFrom::Key(key),
            (None, Some(session)) => MadeFrom::Session(session),
            _ => return Err(TokenFault::Form),
        };
        let rights = token.claims.get("rights").and_then(Value::as_array).ok_or(TokenFault::Form)?;
        let rights = Rights::parse(rights.iter().filter_map(Value::as_str)).map_err(|_| TokenFault::Form)?;
        Ok(OwnVerified { made_from, rights, expires_at })
    }
}
