//! Bodies of EST: base64 of DER (RFC 4648 §4, RFC 8951 §3.1), with line ends or without.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::response::Response;
use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::problem::{Kind, Problem};

/// Largest body of a request, in bytes.
/// Limit for each request of EST: 413.
const BODY_BYTES_MAX: usize = 24 * 1024;
/// Largest request, in bytes of DER: the signer takes none that is larger.
/// Limit for each request of EST: 413.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// How long a line of an answer is.
const LINE_BYTES: usize = 76;
/// Clients from before RFC 8951 look for it; others pass it over (RFC 8951 §3.1).
const TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");
/// Some programs leave the padding away.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The DER in the body of a request; the lines of PEM around it are passed over.
pub(super) fn decoded(body: &[u8]) -> Result<Vec<u8>, Problem> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Problem::new(Kind::TooLarge, "the body must be at most 24576 bytes"));
    }
    let lines = body.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.starts_with(b"-----"));
    let text: Vec<u8> = lines.flatten().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let what = "the body must be a PKCS #10 request: base64 of its DER";
    match LENIENT.decode(&text) {
        Ok(der) if der.len() > REQUEST_BYTES_MAX => {
            Err(Problem::new(Kind::TooLarge, "the request must be at most 8192 bytes of DER"))
        }
        Ok(der) if !der.is_empty() => Ok(der),
        _ => Err(Problem::new(Kind::Invalid, what)),
    }
}

/// Certificates alone (RFC 7030 §4.1.3, §4.2.3).
pub(super) fn certificates(der: &[u8]) -> Response {
    encoded("application/pkcs7-mime; smime-type=certs-only", der)
}

/// What a request should have (RFC 7030 §4.5.2).
pub(super) fn attributes(der: &[u8]) -> Response {
    encoded("application/csrattrs", der)
}

fn encoded(content_type: &'static str, der: &[u8]) -> Response {
    let text = STANDARD.encode(der);
    let mut lines = String::with_capacity(text.len() + text.len() / LINE_BYTES + 2);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII.
        let (line, after) = rest.split_at(rest.len().min(LINE_BYTES));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    let mut response = Response::new(Body::from(lines));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("base64"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_request_is_read_however_its_lines_end(
            der in proptest::collection::vec(any::<u8>(), 1..200), width in 1_usize..80, end in "(\r\n|\n|\r)",
            is_padded: bool, is_pem: bool,
        ) {
            let text = STANDARD.encode(&der);
            let text = if is_padded { text.as_str() } else { text.trim_end_matches('=') };
            let lines: Vec<_> = text.as_bytes().chunks(width).map(|line| str::from_utf8(line).unwrap()).collect();
            let mut body = lines.join(&end) + &end;
            if is_pem {
                body = format!("-----BEGIN CERTIFICATE REQUEST-----{end}{body}-----END CERTIFICATE REQUEST-----{end}");
            }
            prop_assert_eq!(decoded(body.as_bytes()).unwrap(), der);
        }

        #[test]
        fn no_body_makes_it_stumble(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decoded(&body);
        }
    }

    #[test]
    fn what_is_no_base64_or_too_long_is_refused() {
        for bad in ["", "\n\n", "hello!", "-----BEGIN X-----", "{}"] {
            assert_eq!(decoded(bad.as_bytes()).unwrap_err().kind, Kind::Invalid, "{bad:?}");
        }
        assert_eq!(decoded(&vec![b'\n'; BODY_BYTES_MAX + 1]).unwrap_err().kind, Kind::TooLarge);
        let der = vec![0x30; REQUEST_BYTES_MAX + 1];
        assert_eq!(decoded(STANDARD.encode(&der).as_bytes()).unwrap_err().kind, Kind::TooLarge);
        assert!(decoded(STANDARD.encode(&der[1..]).as_bytes()).is_ok());
    }
}
