//! A token in its compact form (RFC 7515 §7.1), taken apart and not trusted.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::fault::TokenFault;

/// Longest token, in bytes.
/// Limit for each request: 401.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// A token, taken apart. Nothing of it is proved until its signature is checked.
#[derive(Debug)]
pub struct Compact<'a> {
    /// What is signed: the first two parts with the dot between them.
    pub(crate) signed: &'a str,
    pub(crate) signature: &'a str,
    /// The header.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

impl<'a> Compact<'a> {
    /// Whether a bearer's text is meant as a token: it has the dots of one.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Takes a token apart.
    ///
    /// # Errors
    /// [`TokenFault::TooLong`], [`TokenFault::Form`].
    pub fn read(text: &'a str) -> Result<Self, TokenFault> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenFault::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenFault::Form)?;
        Ok(Self { signed, signature, header: object(header)?, claims: object(claims)? })
    }

    /// How it is signed.
    ///
    /// # Errors
    /// What in the header is not taken.
    pub fn algorithm(&self) -> Result<Algorithm, TokenFault> {
        // Even an empty list is a fault (RFC 7515 §4.1.11).
        if self.header.contains_key("crit") {
            return Err(TokenFault::Critical);
        }
        match self.header.get("typ") {
            None => {}
            Some(Value::String(name)) if is_type(name) => {}
            Some(_) => return Err(TokenFault::Type),
        }
        let name = self.header.get("alg").and_then(Value::as_str).ok_or(TokenFault::Algorithm)?;
        Algorithm::from_name(name).ok_or(TokenFault::Algorithm)
    }

    /// Which key has signed it, as it says.
    ///
    /// # Errors
    /// [`TokenFault::Key`] for a name that is no text.
    pub fn key_id(&self) -> Result<Option<&str>, TokenFault> {
        match self.header.get("kid") {
            None => Ok(None),
            Some(name) => name.as_str().map(Some).ok_or(TokenFault::Key),
        }
    }

    /// Who has issued it, as it says.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }
}

/// Tokens for other uses have other types (RFC 8725 §3.11).
fn is_type(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.strip_prefix("application/").unwrap_or(&name), "jwt" | "at+jwt")
}

fn object(part: &str) -> Result<Map<String, Value>, TokenFault> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Form)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenFault::Form)
}
