//! The number by which a bearer of tokens is known.

use covey_core::id::{CallerId, OrgId};
use sha2::{Digest, Sha256};

/// The number of whoever an issuer calls by this name, in an organisation: the same for each of its tokens, so that what is kept
/// for a caller is one person's. It lies among those that are no API key's ([`CallerId::is_of_key`]).
#[must_use]
pub fn caller_id(issuer: &str, subject: &str, org: OrgId) -> CallerId {
    let mut digest = Sha256::new();
    // With their lengths, so that no two names read the same together.
    for part in [issuer, subject] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.update(org.0.to_be_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    CallerId::of_digest(u64::from_be_bytes(first))
}
