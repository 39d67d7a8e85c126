//! Secrets and signatures as Standard Webhooks 1.0 has them.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use covey_core::Error;
use covey_core::webhook::WebhookSecret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What a secret begins with.
const BEGINNING: &str = "whsec_";
/// How many bytes a secret has.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How many bytes one has that is made here.
const NEW_BYTES: usize = 32;

/// Takes padding or leaves it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A new secret.
pub(crate) fn new() -> WebhookSecret {
    let bytes: [u8; NEW_BYTES] = rand::random();
    WebhookSecret::new(&format!("{BEGINNING}{}", STANDARD.encode(bytes)))
}

/// The key in a secret.
fn key(secret: &WebhookSecret) -> Option<Vec<u8>> {
    let text = secret.exposed().strip_prefix(BEGINNING)?;
    LENIENT.decode(text).ok().filter(|key| BYTES.contains(&key.len()))
}

/// Checks the form of a secret.
pub(crate) fn check(secret: &WebhookSecret) -> Result<(), Error> {
    let wrong = Error::invalid("secret", "must be whsec_ and then 24 to 64 bytes in base64");
    key(secret).map(drop).ok_or(wrong)
}

/// The value of `webhook-signature`: one signature for each secret that is valid.
pub(crate) fn signatures<'a>(
    secrets: impl Iterator<Item = &'a WebhookSecret>,
    id: &str,
    timestamp_s: i64,
    body: &[u8],
) -> String {
    let signed = secrets.filter_map(|secret| {
        // A key of any length will do for HMAC.
        let mut mac = Hmac::<Sha256>::new_from_slice(&key(secret)?).ok()?;
        mac.update(format!("{id}.{timestamp_s}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    });
    signed.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_signed_as_there() {
        let secret = WebhookSecret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        let signed = signatures([&secret].into_iter(), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let (new, other) = (new(), super::new());
        assert_ne!(new, other);
        let both = signatures([&new, &other].into_iter(), "evt_1", 1, b"");
        assert_eq!(both.split(' ').count(), 2);
    }

    #[test]
    fn a_secret_is_24_to_64_bytes() {
        let of = |bytes: usize| WebhookSecret::new(&format!("whsec_{}", STANDARD.encode(vec![7; bytes])));
        for good in [of(24), of(25), of(64), new()] {
            assert!(check(&good).is_ok());
        }
        let wrong = ["", "whsec_", "secret", "whsec_%%%", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];
        for bad in wrong.map(WebhookSecret::new).into_iter().chain([of(23), of(65)]) {
            assert!(check(&bad).is_err(), "{}", bad.exposed());
        }
        assert_eq!(format!("{:?}", new()), "WebhookSecret(***)");
    }
}
