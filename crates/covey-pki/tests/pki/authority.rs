//! Opening the CA: the same one every time, complete or refused, never replaced.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use covey_pki::{Authority, CertificateLifetimes, Notice, PkiError};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use x509_parser::parse_x509_certificate;

use crate::{NOW, new_authority, open};

const SET: [&str; 4] = ["ca.key", "ca.pem", "issuing.key", "issuing.pem"];

fn try_open(dir: &TempDir, now: OffsetDateTime) -> Result<Authority, PkiError> {
    Authority::open_or_create(&dir.path().join("pki"), CertificateLifetimes::default(), now)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_first_start_makes_a_root_and_an_issuing_ca() {
    let (_dir, authority) = new_authority();
    let (_, root) = parse_x509_certificate(authority.root_der()).unwrap();
    let (_, issuing) = parse_x509_certificate(authority.issuing_der()).unwrap();
    for (certificate, path_len, years, prefix) in
        [(&root, 1, 20, "CN=Covey Root CA "), (&issuing, 0, 10, "CN=Covey Issuing CA ")]
    {
        let constraints = certificate.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(path_len));
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
        let end = certificate.validity().not_after.to_datetime();
        assert!((end - NOW - Duration::days(years * 365)).whole_days().abs() < 10);
        let subject = certificate.subject().to_string();
        let label = subject.strip_prefix(prefix).unwrap();
        assert!(label.len() == 8 && label.bytes().all(|b| b.is_ascii_hexdigit()));
    }
    assert_eq!(issuing.issuer(), root.subject());
    issuing.verify_signature(Some(root.public_key())).unwrap();
}

#[test]
fn opening_again_gives_the_same_ca_and_writes_nothing() {
    let (dir, first) = new_authority();
    assert!(matches!(first.notices(NOW).as_slice(), [Notice::Created { .. }]));
    let before: Vec<_> = SET.map(|name| fs::read(dir.path().join("pki").join(name)).unwrap()).into();
    let again = open(&dir, NOW + Duration::days(400));
    let after: Vec<_> = SET.map(|name| fs::read(dir.path().join("pki").join(name)).unwrap()).into();
    assert_eq!(before, after);
    assert_eq!(first.root_pem(), again.root_pem());
    assert_eq!(first.issuing_pem(), again.issuing_pem());
    assert!(again.notices(NOW).is_empty());
}

#[test]
fn starts_at_the_same_time_agree_on_one_ca() {
    let dir = tempfile::tempdir().unwrap();
    let roots: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&dir, NOW))).collect();
        starts.into_iter().map(|start| start.join().unwrap().root_pem().to_owned()).collect()
    });
    assert!(roots.iter().all(|root| *root == roots[0]));
}

#[test]
fn keys_are_private_and_certificates_public() {
    let (dir, authority) = new_authority();
    authority.server_certificate(&covey_pki::ServerNames::from_hosts(["localhost"]), NOW).unwrap();
    let pki = dir.path().join("pki");
    assert_eq!(mode(&pki), 0o700);
    for name in ["ca.key", "issuing.key", "server.key"] {
        assert_eq!(mode(&pki.join(name)), 0o600, "{name}");
    }
    for name in ["ca.pem", "issuing.pem", "server.pem"] {
        assert_eq!(mode(&pki.join(name)), 0o644, "{name}");
    }
}

#[test]
fn a_key_open_to_others_is_closed_and_reported() {
    let (dir, _) = new_authority();
    let key = dir.path().join("pki/issuing.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let authority = open(&dir, NOW);
    assert_eq!(mode(&key), 0o600);
    let notices = authority.notices(NOW);
    assert!(matches!(&notices[..], [Notice::KeyPermissionsNarrowed { mode: 0o644, .. }]));
    assert!(notices[0].is_warning() && notices[0].to_string().contains("issuing.key"));
}

#[test]
fn a_set_that_was_not_finished_is_thrown_away() {
    for files in 0..=SET.len() {
        let (old, authority) = new_authority();
        let dir = tempfile::tempdir().unwrap();
        let unfinished = dir.path().join("pki/.unfinished");
        fs::create_dir_all(&unfinished).unwrap();
        for name in &SET[..files] {
            fs::copy(old.path().join("pki").join(name), unfinished.join(name)).unwrap();
        }
        let opened = open(&dir, NOW);
        assert_ne!(opened.root_pem(), authority.root_pem());
        assert!(!unfinished.exists());
    }
}

#[test]
fn a_finished_set_is_brought_into_place() {
    for moved in 0..=SET.len() {
        let (dir, authority) = new_authority();
        let pki = dir.path().join("pki");
        fs::create_dir(pki.join(".finished")).unwrap();
        for name in &SET[moved..] {
            fs::rename(pki.join(name), pki.join(".finished").join(name)).unwrap();
        }
        assert_eq!(open(&dir, NOW).root_pem(), authority.root_pem());
        assert!(!pki.join(".finished").exists());
    }
}

#[test]
fn a_finished_set_never_replaces_another_ca() {
    let (dir, authority) = new_authority();
    let (other, _) = new_authority();
    let pki = dir.path().join("pki");
    fs::rename(other.path().join("pki"), pki.join(".finished")).unwrap();
    assert!(matches!(try_open(&dir, NOW).unwrap_err(), PkiError::Mixed { .. }));
    assert_eq!(fs::read_to_string(pki.join("ca.pem")).unwrap(), authority.root_pem());
}

#[test]
fn a_ca_that_lacks_a_file_is_refused_and_not_replaced() {
    for missing in ["ca.pem", "issuing.key", "issuing.pem"] {
        let (dir, _) = new_authority();
        fs::remove_file(dir.path().join("pki").join(missing)).unwrap();
        let error = try_open(&dir, NOW).unwrap_err().to_string();
        assert!(error.contains(missing) && error.contains("backup"), "{error}");
    }
}

#[test]
fn the_root_key_may_be_kept_elsewhere() {
    let (dir, _) = new_authority();
    fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
    let authority = open(&dir, NOW);
    assert!(matches!(authority.notices(NOW).as_slice(), [Notice::RootKeyAbsent { .. }]));
    authority.issue_device("d1", NOW).unwrap();
}

#[test]
fn damaged_and_exchanged_files_are_named() {
    for name in SET {
        for content in [&b""[..], b"garbage", &[0xff; 1000], b"-----BEGIN CERTIFICATE-----\nAA"] {
            let (dir, _) = new_authority();
            fs::write(dir.path().join("pki").join(name), content).unwrap();
            let error = try_open(&dir, NOW).unwrap_err();
            assert!(matches!(error, PkiError::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        let (dir, _) = new_authority();
        let (other, _) = new_authority();
        fs::copy(other.path().join("pki").join(name), dir.path().join("pki").join(name)).unwrap();
        let error = try_open(&dir, NOW).unwrap_err();
        assert!(matches!(error, PkiError::KeyMismatch { .. }), "{error}");
    }
    let (dir, _) = new_authority();
    let (other, _) = new_authority();
    for name in ["issuing.pem", "issuing.key"] {
        fs::copy(other.path().join("pki").join(name), dir.path().join("pki").join(name)).unwrap();
    }
    assert!(matches!(try_open(&dir, NOW).unwrap_err(), PkiError::NotOurAuthority { .. }));
}

#[test]
fn dates_are_checked_and_the_end_is_announced() {
    let (dir, authority) = new_authority();
    let end = authority.issuing_not_after();
    assert!(authority.notices(end - Duration::days(400)).iter().all(|n| !n.is_warning()));
    let near = authority.notices(end - Duration::days(300));
    assert!(matches!(near.as_slice(), [_, Notice::NearEnd { .. }]), "{near:?}");
    assert!(matches!(try_open(&dir, end).unwrap_err(), PkiError::Expired { .. }));
    assert!(matches!(authority.issue_device("d1", end).unwrap_err(), PkiError::Expired { .. }));
    assert!(matches!(try_open(&dir, NOW - Duration::days(2)).unwrap_err(), PkiError::NotYetValid { .. }));
}

#[test]
fn no_ca_is_made_while_the_clock_is_not_set() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(try_open(&dir, OffsetDateTime::UNIX_EPOCH).unwrap_err(), PkiError::ClockUnset { .. }));
    open(&dir, NOW);
}

#[test]
fn the_authority_can_be_shared_and_never_prints_its_key() {
    fn shared<T: Send + Sync>(_: &T) {}
    let (dir, authority) = new_authority();
    shared(&authority);
    let key = fs::read_to_string(dir.path().join("pki/issuing.key")).unwrap();
    assert!(!format!("{authority:#?}").contains(key.lines().nth(1).unwrap()));
}
