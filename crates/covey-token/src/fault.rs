//! Why a token is not taken.

/// Why a token is not taken. The texts hold nothing of the token, and only characters that may stand in
/// `error_description` (RFC 6750 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It is longer than any may be.
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// It is no token.
    #[error(
        "the token is not three parts in base64url with a dot between two, the first two of them JSON objects"
    )]
    Form,
    /// Signed by an algorithm that is not taken.
    #[error("the token must be signed with RS256, ES256 or EdDSA")]
    Algorithm,
    /// An extension that must be understood.
    #[error("the token demands extensions (crit), and none are known here")]
    Critical,
    /// Something else than an access token.
    #[error("the type (typ) of the token is neither JWT nor at+jwt")]
    Type,
    /// Of nobody who is trusted.
    #[error("the issuer (iss) of the token is not one that this server trusts")]
    Issuer,
    /// For somebody else.
    #[error("the token is for another audience (aud)")]
    Audience,
    /// It would be valid for ever.
    #[error("the token has no expiry (exp) that is a number")]
    NoExpiry,
    /// Its time is over.
    #[error("the token has expired (exp)")]
    Expired,
    /// Its time has not begun.
    #[error("the token is not valid yet (nbf, iat)")]
    NotYet,
    /// An instant that is none.
    #[error("an instant of the token (nbf, iat) is not a number")]
    Instant,
    /// Signed by a key that its issuer does not have.
    #[error("the key (kid, alg) of the token is not among those of its issuer")]
    Key,
    /// Not signed by that key.
    #[error("the signature of the token is wrong")]
    Signature,
    /// Without an organisation.
    #[error("the token names no organisation: the claim for it is missing, or neither a number nor a name")]
    NoOrganisation,
    /// Of an organisation that does not exist.
    #[error("the organisation that the token names does not exist here")]
    UnknownOrganisation,
    /// The API key from which it was made is gone.
    #[error("the API key from which the token was made was revoked or has expired")]
    KeyGone,
    /// The session in which it was made has ended.
    #[error("the session in which the token was made has ended")]
    SessionGone,
    /// The keys of its issuer could not be read since the server was started.
    #[error("the keys of the token's issuer cannot be read yet; try again later")]
    NoKeys,
}
