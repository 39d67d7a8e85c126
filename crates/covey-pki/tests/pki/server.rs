//! The server certificate: kept while it is good, made anew for every reason there is.

use std::fs;
use std::time::Duration as Lifetime;

use covey_pki::{Authority, CertificateLifetimes, PkiError, RenewalReason, ServerNames};
use time::Duration;
use x509_parser::parse_x509_certificate;

use crate::{NOW, new_authority};

fn names() -> ServerNames {
    ServerNames::from_hosts(["covey.example", "LocalHost", "10.1.2.3", "::1"])
}

#[test]
fn a_server_certificate_is_for_its_names_and_for_servers_only() {
    let (_dir, authority) = new_authority();
    let made = authority.server_certificate(&names(), NOW).unwrap();
    assert_eq!(made.renewed_because(), Some(RenewalReason::Missing));
    assert_eq!(made.chain().len(), 2);
    assert_eq!(&made.chain()[1], authority.issuing_der());
    let (_, leaf) = parse_x509_certificate(&made.chain()[0]).unwrap();
    let uses = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(uses.server_auth && !uses.client_auth);
    assert_eq!(made.not_after(), NOW + Duration::days(397));
    let key = fs::read_to_string(made.key_path()).unwrap();
    assert!(!format!("{made:?}").contains(key.lines().nth(1).unwrap()));
}

#[test]
fn a_good_one_is_loaded_as_it_is() {
    let (_dir, authority) = new_authority();
    let made = authority.server_certificate(&names(), NOW).unwrap();
    for wanted in [names(), ServerNames::from_hosts(["COVEY.example"])] {
        let last_moment = made.renew_at() - Duration::SECOND;
        let loaded = authority.server_certificate(&wanted, last_moment).unwrap();
        assert_eq!(loaded.renewed_because(), None);
        assert_eq!(loaded.chain(), made.chain());
        assert_eq!(loaded.key(), made.key());
        assert_eq!(loaded.renew_at(), made.renew_at());
    }
}

#[test]
fn it_is_renewed_when_due_and_when_a_name_is_missing() {
    let (_dir, authority) = new_authority();
    let first = authority.server_certificate(&names(), NOW).unwrap();
    let two_thirds = NOW + Duration::days(397) * 2 / 3;
    assert_eq!(first.renew_at(), two_thirds);

    let second = authority.server_certificate(&names(), first.renew_at()).unwrap();
    assert_eq!(second.renewed_because(), Some(RenewalReason::Due));
    assert_ne!(second.key(), first.key());

    let mut more = names();
    more.ip.push([192, 168, 0, 7].into());
    let third = authority.server_certificate(&more, first.renew_at()).unwrap();
    assert_eq!(third.renewed_because(), Some(RenewalReason::NamesMissing));
    // The clock went back behind the new certificate's start.
    let fourth = authority.server_certificate(&more, NOW).unwrap();
    assert_eq!(fourth.renewed_because(), Some(RenewalReason::Due));
}

#[test]
fn it_is_made_anew_when_damaged_incomplete_or_of_another_ca() {
    let (dir, authority) = new_authority();
    let (other_dir, other) = new_authority();
    let pki = dir.path().join("pki");
    let get = || authority.server_certificate(&names(), NOW).unwrap();
    let again = || {
        let reason = get().renewed_because();
        assert_eq!(get().renewed_because(), None);
        reason
    };
    get();
    fs::write(pki.join("server.pem"), "garbage").unwrap();
    assert_eq!(again(), Some(RenewalReason::Broken));
    fs::remove_file(pki.join("server.key")).unwrap();
    assert_eq!(again(), Some(RenewalReason::Missing));
    // Killed between the two files, and while the first was being written.
    fs::copy(pki.join("issuing.key"), pki.join("server.key")).unwrap();
    fs::write(pki.join(".server.key.new"), "half a k").unwrap();
    assert_eq!(again(), Some(RenewalReason::Broken));
    assert!(!pki.join(".server.key.new").exists());
    // Only the leaf, without the issuing CA.
    let chain = fs::read_to_string(pki.join("server.pem")).unwrap();
    let leaf = chain.strip_suffix(authority.issuing_pem()).unwrap();
    fs::write(pki.join("server.pem"), leaf).unwrap();
    assert_eq!(again(), Some(RenewalReason::OtherAuthority));

    other.server_certificate(&names(), NOW).unwrap();
    for name in ["server.pem", "server.key"] {
        fs::copy(other_dir.path().join("pki").join(name), pki.join(name)).unwrap();
    }
    assert_eq!(again(), Some(RenewalReason::OtherAuthority));
}

#[test]
fn a_life_of_seconds_works() {
    let dir = tempfile::tempdir().unwrap();
    let lifetimes =
        CertificateLifetimes { server: Lifetime::from_secs(6), ..CertificateLifetimes::default() };
    let authority = Authority::open_or_create(dir.path(), lifetimes, NOW).unwrap();
    let made = authority.server_certificate(&names(), NOW).unwrap();
    assert_eq!(made.renew_at(), NOW + Duration::seconds(4));
    assert_eq!(made.not_after(), NOW + Duration::seconds(6));
}

#[test]
fn names_that_cannot_be_served_are_refused() {
    let (_dir, authority) = new_authority();
    let refused = |dns: &str| {
        let names = ServerNames { dns: vec![dns.to_owned()], ip: Vec::new() };
        authority.server_certificate(&names, NOW).unwrap_err()
    };
    assert!(matches!(refused("a b"), PkiError::ServerName { .. }));
    assert!(matches!(refused("127.0.0.1"), PkiError::ServerName { .. }));
    assert!(matches!(
        authority.server_certificate(&ServerNames::default(), NOW),
        Err(PkiError::ServerNamesEmpty)
    ));
}
