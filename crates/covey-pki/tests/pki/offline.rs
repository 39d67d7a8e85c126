//! An issuing CA that takes the place of another one, again and again; CAs of others; and looking at all of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use covey_pki::{Authority, CertificateLifetimes, Notice, PkiError};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::NOW;

const DAY: Duration = Duration::days(1);

fn lifetimes() -> CertificateLifetimes {
    CertificateLifetimes { issuing: Duration::days(30).unsigned_abs(), ..CertificateLifetimes::default() }
}

/// A folder whose issuing CAs live for a month.
fn opened() -> (TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path(), lifetimes(), NOW).unwrap();
    (dir, authority)
}

fn signed(pki: &Path, now: OffsetDateTime) -> String {
    let request = fs::read_to_string(Authority::request_issuing(pki).unwrap()).unwrap();
    Authority::sign_issuing(pki, &request, lifetimes(), now).unwrap()
}

fn exchange(pki: &Path, now: OffsetDateTime) {
    Authority::install_issuing(pki, &signed(pki, now), now).unwrap();
}

fn count(path: &Path, what: &str) -> usize {
    fs::read_to_string(path).unwrap().matches(what).count()
}

#[test]
fn of_issuing_cas_of_before_that_have_ended_no_key_is_kept() {
    let (dir, _) = opened();
    for number in 1..=12 {
        exchange(dir.path(), NOW + DAY * 20 * number);
    }
    let keys = count(&dir.path().join("former.key"), "BEGIN PRIVATE KEY");
    assert_eq!(keys, count(&dir.path().join("former.pem"), "BEGIN CERTIFICATE"));
    assert!((1..=2).contains(&keys), "{keys}");
    let now = NOW + DAY * 240;
    let authority = Authority::open_or_create(dir.path(), lifetimes(), now).unwrap();
    assert_eq!(authority.crl_issuers().len(), 2, "that of today, and the one whose end is to come");
}

#[test]
fn a_key_that_was_installed_gets_no_second_certificate_after_a_kill() {
    for has_request in [true, false] {
        let (dir, _) = opened();
        let path = |name: &str| dir.path().join(name);
        let chain = signed(dir.path(), NOW);
        let [key, request] =
            ["issuing-next.key", "issuing-next.csr"].map(|name| fs::read(path(name)).unwrap());
        Authority::install_issuing(dir.path(), &chain, NOW).unwrap();
        // As a kill leaves it.
        fs::write(path("issuing-next.key"), &key).unwrap();
        if has_request {
            fs::write(path("issuing-next.csr"), &request).unwrap();
        }
        Authority::request_issuing(dir.path()).unwrap();
        assert_ne!(fs::read(path("issuing-next.key")).unwrap(), key);
        assert_ne!(fs::read(path("issuing-next.csr")).unwrap(), request);
        fs::write(path("issuing-next.key"), &key).unwrap();
        Authority::open_or_create(dir.path(), lifetimes(), NOW).unwrap();
        assert!(!path("issuing-next.key").exists() && !path("issuing-next.csr").exists());
    }
}

#[test]
fn a_server_that_slept_beyond_the_end_of_its_issuing_ca_takes_over_the_one_of_today() {
    let (given, _) = opened();
    let slept = tempfile::tempdir().unwrap();
    Authority::adopt(given.path(), slept.path(), NOW).unwrap();
    for number in 1..=4 {
        exchange(given.path(), NOW + DAY * 20 * number);
    }
    let now = NOW + DAY * 80;
    Authority::adopt(given.path(), slept.path(), now).unwrap();
    let of =
        |dir: &TempDir| Authority::open_or_create(dir.path(), lifetimes(), now).unwrap().fingerprint_sha256();
    assert_eq!(of(&slept), of(&given));
    let (other, _) = opened();
    assert!(matches!(
        Authority::adopt(other.path(), slept.path(), NOW),
        Err(PkiError::OtherAuthority { .. })
    ));
}

/// A CA of others: its key and certificate, signed by another one or itself.
fn ca(
    name: &str,
    key: &KeyPair,
    by: Option<&Issuer<'_, &KeyPair>>,
    ends: OffsetDateTime,
) -> (CertificateParams, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = NOW - DAY;
    params.not_after = ends;
    let made = match by {
        Some(issuer) => params.signed_by(key, issuer),
        None => params.self_signed(key),
    };
    let pem = made.unwrap().pem();
    (params, pem)
}

#[test]
fn cas_that_lead_to_one_another_or_share_a_key_are_not_both_trusted() {
    let (dir, authority) = opened();
    let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let ends = NOW + DAY * 100;
    let (params, root) = ca("root", &root_key, None, ends);
    let (_, below) = ca("below", &key, Some(&Issuer::from_params(&params, &root_key)), ends);
    let (_, same_key) = ca("another name", &root_key, None, ends);
    let (_, other) = ca("other", &KeyPair::generate().unwrap(), None, ends);
    let import =
        |dir: &TempDir, name: &str, pem: &str| Authority::import_ca(dir.path(), name, pem, NOW).map(drop);
    let own = fs::read_to_string(dir.path().join("issuing.pem")).unwrap();
    assert!(import(&dir, "own", &own).is_err() && import(&dir, "own", authority.root_pem()).is_err());
    import(&dir, "root", &root).unwrap();
    for refused in [&root, &below, &same_key] {
        assert!(matches!(import(&dir, "more", refused), Err(PkiError::Given(_))));
    }
    import(&dir, "other", &other).unwrap();
    let (dir, _) = opened();
    import(&dir, "below", &below).unwrap();
    assert!(import(&dir, "root", &root).is_err(), "the other way round");
}

#[test]
fn a_ca_of_others_vouches_for_nobody_past_its_end_and_that_is_told_before() {
    let (dir, _) = opened();
    let key = KeyPair::generate().unwrap();
    let (params, pem) = ca("old", &key, None, NOW + DAY * 100);
    Authority::import_ca(dir.path(), "old", &pem, NOW).unwrap();
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name.push(DnType::CommonName, "lamp-1");
    (leaf.not_before, leaf.not_after) = (NOW - DAY, NOW + DAY * 1_000);
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&leaf_key, &Issuer::from_params(&params, &key)).unwrap();
    let authority = Authority::open_or_create(dir.path(), lifetimes(), NOW).unwrap();
    let registered = authority.imported_device("old", &leaf.pem(), NOW).unwrap();
    let (id, sha256) = registered.serial.split_once('~').unwrap();
    assert_eq!((id.len(), sha256.len()), (32, 64));
    assert!(authority.imported_device("old", &leaf.pem(), NOW + DAY * 101).is_err());
    let told = |now| {
        let notices = authority.notices(now);
        notices.into_iter().find_map(|notice| match notice {
            Notice::ImportedNearEnd { is_over, .. } => Some(is_over),
            _ => None,
        })
    };
    assert_eq!([NOW, NOW + DAY * 95, NOW + DAY * 101].map(told), [None, Some(false), Some(true)]);
}

#[test]
fn looking_at_the_cas_changes_nothing() {
    let (dir, _) = opened();
    exchange(dir.path(), NOW + DAY);
    let (_, other) = ca("old", &KeyPair::generate().unwrap(), None, NOW + DAY * 100);
    Authority::import_ca(dir.path(), "old", &other, NOW).unwrap();
    let key = dir.path().join("issuing.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    fs::remove_file(dir.path().join(".lock")).unwrap();
    fs::create_dir(dir.path().join(".unfinished")).unwrap();
    let state = || {
        let entries = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
        let mut all: Vec<_> = entries
            .map(|entry| {
                (
                    entry.file_name(),
                    entry.metadata().unwrap().permissions().mode(),
                    fs::read(entry.path()).ok(),
                )
            })
            .collect();
        all.sort();
        all
    };
    let before = state();
    let roles = |dir: &Path, now| -> Vec<_> {
        Authority::overview(dir, now).unwrap().into_iter().map(|ca| (ca.role, ca.has_key)).collect()
    };
    let all = [("root", true), ("issuing", true), ("former", true), ("imported", false)];
    assert_eq!(roles(dir.path(), NOW + DAY), all);
    assert_eq!(roles(dir.path(), NOW + DAY * 40), [all[0], all[1], all[3]], "also past their ends");
    assert_eq!(state(), before);
    let root = tempfile::tempdir().unwrap();
    Authority::create_root(root.path(), lifetimes(), NOW).unwrap();
    assert_eq!(roles(root.path(), NOW), [all[0]]);
}
