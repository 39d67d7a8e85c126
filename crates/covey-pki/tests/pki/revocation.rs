//! What the issuing CA says of its certificates, read by openssl; and requests of every kind.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use covey_pki::{Authority, CertificateLifetimes, CrlSpan, OcspRefusal, OcspSpan, OcspStatus, RevokedEntry};
use proptest::prelude::*;
use time::OffsetDateTime;

struct Bed {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let authority =
            Authority::open_or_create(folder.path(), CertificateLifetimes::default(), now).unwrap();
        Self { folder, authority }
    }

    /// Makes a certificate for a device; its file, and its serial number.
    fn issue(&self, sn: &str) -> (String, String) {
        let issued = self.authority.issue_device(sn, OffsetDateTime::now_utc()).unwrap();
        std::fs::write(self.folder.path().join(format!("{sn}.pem")), &issued.certificate_pem).unwrap();
        (format!("{sn}.pem"), issued.serial_hex)
    }

    /// What openssl says of it, and whether it was content.
    fn openssl(&self, arguments: &[&str]) -> (String, bool) {
        openssl_in(self.folder.path(), arguments)
    }

    fn ocsp(&self, request: &str, known: &HashMap<String, OcspStatus>) {
        let now = OffsetDateTime::now_utc();
        let span = OcspSpan { this_update: now, next_update: now + Duration::from_secs(600) };
        let request = std::fs::read(self.folder.path().join(request)).unwrap();
        let answer = self.authority.ocsp_answer(&request, known, span).unwrap();
        std::fs::write(self.folder.path().join("answer.der"), answer).unwrap();
    }
}

fn openssl_in(folder: &Path, arguments: &[&str]) -> (String, bool) {
    let said = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    (text, said.status.success())
}

#[test]
fn openssl_refuses_what_is_in_the_list_and_nothing_else() {
    let bed = Bed::new();
    let (good, _) = bed.issue("good");
    let (bad, bad_serial) = bed.issue("bad");
    let now = OffsetDateTime::now_utc();
    let span = CrlSpan { number: 7 << 40, this_update: now, next_update: now + Duration::from_secs(3_600) };
    let entry = |serial_hex: &str, reason| RevokedEntry {
        serial_hex: serial_hex.to_owned(),
        revoked_at_s: now.unix_timestamp() - 60,
        reason,
    };
    let revoked = [entry(&bad_serial, 1), entry("ff01", 0), entry("0a", 5)];
    let path = bed.folder.path().join("crl.der");
    std::fs::write(&path, bed.authority.crl(&revoked, span, 0).unwrap()).unwrap();
    let (text, is_content) = bed.openssl(&[
        "crl",
        "-in",
        "crl.der",
        "-inform",
        "DER",
        "-noout",
        "-text",
        "-CAfile",
        "issuing.pem",
    ]);
    assert!(is_content && text.contains("verify OK"), "{text}");
    for told in
        ["Key Compromise", "Cessation Of Operation", "Authority Key Identifier", "Serial Number: FF01"]
    {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert!(bed.openssl(&["crl", "-in", "crl.der", "-inform", "DER", "-out", "crl.pem"]).1);
    let verify = |certificate: &str| {
        bed.openssl(&[
            "verify",
            "-crl_check",
            "-CRLfile",
            "crl.pem",
            "-CAfile",
            "ca.pem",
            "-untrusted",
            "issuing.pem",
            certificate,
        ])
    };
    let (text, is_content) = verify(&good);
    assert!(is_content, "{text}");
    let (text, is_content) = verify(&bad);
    assert!(!is_content && text.contains("certificate revoked"), "{text}");

    // A list without entries is one, too; an entry that is none is no list.
    assert!(bed.authority.crl(&[], span, 0).is_ok());
    for wrong in [entry("", 1), entry("xy", 1), entry("abc", 1), entry(&"11".repeat(21), 1), entry("0a", 6)] {
        assert!(bed.authority.crl(&[wrong], span, 0).is_err());
    }
}

#[test]
fn openssl_is_told_good_revoked_and_unknown_by_digests_of_both_kinds() {
    let bed = Bed::new();
    let (good, good_serial) = bed.issue("good");
    let (bad, bad_serial) = bed.issue("bad");
    let (stranger, _) = bed.issue("stranger");
    let revoked = OcspStatus::Revoked { at_s: 1_790_000_000, reason: 1 };
    let known = HashMap::from([(good_serial.clone(), OcspStatus::Good), (bad_serial.clone(), revoked)]);
    for digest in ["-sha1", "-sha256"] {
        let mut asked = vec!["ocsp", digest, "-issuer", "issuing.pem"];
        for certificate in [&good, &bad, &stranger] {
            asked.extend(["-cert", certificate.as_str()]);
        }
        let ask = [&asked[..], &["-reqout", "request.der"]].concat();
        assert!(bed.openssl(&ask).1);
        let request = std::fs::read(bed.folder.path().join("request.der")).unwrap();
        let serials = bed.authority.ocsp_serials(&request).unwrap();
        assert_eq!((&serials[0], &serials[1], serials.len()), (&good_serial, &bad_serial, 3));
        bed.ocsp("request.der", &known);
        let read = [
            &asked[..],
            &["-no_nonce", "-respin", "answer.der", "-CAfile", "ca.pem", "-verify_other", "issuing.pem"],
        ];
        let (text, is_content) = bed.openssl(&read.concat());
        assert!(is_content && text.contains("Response verify OK"), "{text}");
        for told in ["good.pem: good", "bad.pem: revoked", "Reason: keyCompromise", "stranger.pem: unknown"] {
            assert!(text.contains(told), "{told}: {text}");
        }
        // The nonce of the request comes back, by which it is known as the answer to this one.
        let read = [
            "ocsp",
            "-reqin",
            "request.der",
            "-respin",
            "answer.der",
            "-CAfile",
            "ca.pem",
            "-verify_other",
            "issuing.pem",
        ];
        let (text, is_content) = bed.openssl(&read);
        assert!(is_content && text.contains("Response verify OK") && !text.contains("onc"), "{text}");
    }
    // Of another CA nothing is known, whatever the serial number.
    let other = Bed::new();
    std::fs::copy(other.folder.path().join("issuing.pem"), bed.folder.path().join("other.pem")).unwrap();
    let of_other = ["ocsp", "-issuer", "other.pem", "-cert", &good, "-reqout", "request.der"];
    assert!(bed.openssl(&of_other).1);
    let request = std::fs::read(bed.folder.path().join("request.der")).unwrap();
    assert_eq!(bed.authority.ocsp_serials(&request), Ok(Vec::new()));
}

#[test]
fn a_request_beyond_its_bounds_is_refused() {
    let bed = Bed::new();
    let (good, _) = bed.issue("good");
    let many = |count: usize| {
        let mut asked = vec!["ocsp", "-no_nonce", "-issuer", "issuing.pem"];
        (0..count).for_each(|_| asked.extend(["-cert", good.as_str()]));
        asked.extend(["-reqout", "request.der"]);
        assert!(bed.openssl(&asked).1);
        let request = std::fs::read(bed.folder.path().join("request.der")).unwrap();
        bed.authority.ocsp_serials(&request).map(|serials| serials.len())
    };
    assert_eq!(many(16), Ok(16));
    assert_eq!(many(17), Err(OcspRefusal::Malformed));
    for wrong in [&[][..], &[0x30, 0x00], b"GET / HTTP/1.1", &[0x30; 5_000]] {
        assert_eq!(bed.authority.ocsp_serials(wrong), Err(OcspRefusal::Malformed));
    }
    let refusal = OcspRefusal::Malformed.to_der().unwrap();
    std::fs::write(bed.folder.path().join("answer.der"), refusal).unwrap();
    let (text, _) = bed.openssl(&["ocsp", "-respin", "answer.der"]);
    assert!(text.contains("malformedrequest (1)"), "{text}");
}

/// A request as openssl makes it, for one certificate, with a nonce.
fn good_request(bed: &Bed) -> Vec<u8> {
    let (good, _) = bed.issue("good");
    assert!(bed.openssl(&["ocsp", "-issuer", "issuing.pem", "-cert", &good, "-reqout", "request.der"]).1);
    std::fs::read(bed.folder.path().join("request.der")).unwrap()
}

#[test]
fn no_request_ends_the_server_and_every_answer_is_one() {
    let bed = Bed::new();
    let good = good_request(&bed);
    let now = OffsetDateTime::now_utc();
    let span = OcspSpan { this_update: now, next_update: now + Duration::from_secs(600) };
    let known = HashMap::new();
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let requests = prop_oneof![
        // Rubbish, and what begins well.
        proptest::collection::vec(any::<u8>(), 0..600),
        (changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(move |(changes, end, is_cut)| {
            let mut bytes = good.clone();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if is_cut {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes
        }),
    ];
    let config = ProptestConfig { cases: 4_096, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(request in requests)| {
        match (bed.authority.ocsp_serials(&request), bed.authority.ocsp_answer(&request, &known, span)) {
            (Ok(serials), Ok(answer)) => {
                prop_assert!(serials.len() <= 16 && answer.first() == Some(&0x30));
                prop_assert!(serials.iter().all(|serial| serial.len() <= 40));
            }
            (Err(one), Err(other)) => prop_assert_eq!((one, other), (OcspRefusal::Malformed, OcspRefusal::Malformed)),
            (one, other) => prop_assert!(false, "{one:?} and {other:?}"),
        }
    });
}
