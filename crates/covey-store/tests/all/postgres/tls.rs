//! TLS to the database, as far as each `sslmode` demands.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use covey_store::postgres::{Options, Postgres};
use covey_testbed::{Service, Testbed};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::world::parts::{Counts, TestClock};

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn each_mode_checks_what_libpq_says() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let key = KeyPair::generate().unwrap();
    // The certificate is for a name, and not for the address.
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ours).unwrap();
    let own = Testbed::own(&["fsync = off"]).unwrap();
    own.up(&[Service::Postgresql]).unwrap();
    own.stop("postgresql").unwrap();
    let files = [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
        ("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust\n".to_owned()),
        ("postgresql.auto.conf", "ssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n".to_owned()),
    ];
    files.iter().for_each(|(name, text)| own.write_postgresql_data(name, text).unwrap());
    own.start("postgresql").unwrap();
    let port = own.port("postgresql", "postgresql").unwrap();
    let files = tempfile::tempdir().unwrap();
    let (our_root, their_root) = (files.path().join("ours.pem"), files.path().join("theirs.pem"));
    fs::write(&our_root, ours.pem()).unwrap();
    fs::write(&their_root, theirs.pem()).unwrap();
    let connects = |host: &str, tls: &str| {
        let tls =
            tls.replace("OURS", our_root.to_str().unwrap()).replace("THEIRS", their_root.to_str().unwrap());
        let mut options =
            Options::new(&format!("postgres://covey_admin@{host}:{port}/postgres?{tls}"), "a").unwrap();
        options.open_timeout = Duration::from_secs(5);
        Postgres::open(&options, Arc::new(TestClock::default()), Arc::new(Counts::default())).is_ok()
    };
    for (host, tls, is_good) in [
        ("127.0.0.1", "sslmode=disable", false),
        ("127.0.0.1", "", true),
        ("127.0.0.1", "sslmode=require", true),
        ("127.0.0.1", "sslmode=require&sslrootcert=OURS", true),
        ("127.0.0.1", "sslmode=require&sslrootcert=THEIRS", false),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=OURS", true),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=THEIRS", false),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=OURS", false),
        ("localhost", "sslmode=verify-full&sslrootcert=OURS", true),
        ("localhost", "sslmode=verify-full&sslrootcert=THEIRS", false),
        ("localhost", "sslmode=verify-full", false),
    ] {
        assert_eq!(connects(host, tls), is_good, "{host} {tls}");
    }
}
