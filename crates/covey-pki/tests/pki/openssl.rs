//! The same judged by openssl, which devices and brokers use. Without the command these tests
//! pass without a look.

use std::fs;
use std::path::Path;
use std::process::Command;

use covey_pki::ServerNames;
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::{NOW, new_authority};

fn openssl(args: &[&str], dir: &Path) -> Option<(bool, String)> {
    let output = Command::new("openssl").args(args).current_dir(dir).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

fn verify(dir: &TempDir, root: &Path, chain: &Path, purpose: &str, at: OffsetDateTime) -> Option<bool> {
    let at_s = at.unix_timestamp().to_string();
    let (root, chain) = (root.to_str().unwrap(), chain.to_str().unwrap());
    let args = [
        "verify",
        "-x509_strict",
        "-purpose",
        purpose,
        "-attime",
        &at_s,
        "-CAfile",
        root,
        "-untrusted",
        chain,
        chain,
    ];
    let (verified, text) = openssl(&args, dir.path())?;
    println!("{text}");
    Some(verified)
}

#[test]
fn openssl_verifies_device_and_server_by_the_root_alone() {
    let (dir, authority) = new_authority();
    let (_other_dir, other) = new_authority();
    let device = dir.path().join("device.pem");
    let issued = authority.issue_device("device_1", NOW).unwrap();
    fs::write(&device, &issued.certificate_pem).unwrap();
    let names = ServerNames::from_hosts(["localhost", "::1"]);
    let server = authority.server_certificate(&names, NOW).unwrap();

    let root = authority.root_path();
    let Some(verified) = verify(&dir, &root, &device, "sslclient", NOW) else {
        return;
    };
    assert!(verified);
    let path = server.certificate_path();
    assert_eq!(verify(&dir, &root, path, "sslserver", NOW), Some(true));
    assert_eq!(verify(&dir, &root, &device, "sslserver", NOW), Some(false));
    assert_eq!(verify(&dir, &root, path, "sslclient", NOW), Some(false));
    let other_root = other.root_path();
    assert_eq!(verify(&dir, &other_root, &device, "sslclient", NOW), Some(false));
    let past_end = authority.issuing_not_after() + time::Duration::SECOND;
    assert_eq!(verify(&dir, &root, &device, "sslclient", past_end), Some(false));

    let (_, text) =
        openssl(&["x509", "-in", "device.pem", "-noout", "-serial", "-fingerprint", "-sha256"], dir.path())
            .unwrap();
    let text = text.replace(':', "").to_lowercase();
    assert!(text.contains(&issued.serial_hex), "{text}");
    assert!(text.contains(&issued.fingerprint_sha256), "{text}");
}

#[test]
fn requests_made_by_openssl_are_signed() {
    let (dir, authority) = new_authority();
    let kinds: [&[&str]; 4] = [
        &["-newkey", "rsa:2048"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha384"],
        &["-newkey", "ed25519"],
    ];
    for kind in kinds {
        let fixed = [
            "req",
            "-new",
            "-nodes",
            "-keyout",
            "device.key",
            "-out",
            "device.csr",
            "-subj",
            "/O=Somebody/CN=device-2",
        ];
        let Some((made, text)) = openssl(&[&fixed[..], kind].concat(), dir.path()) else {
            return;
        };
        assert!(made, "{text}");
        let csr = fs::read_to_string(dir.path().join("device.csr")).unwrap();
        let issued = authority.sign_device_request("device-2", &csr, NOW).unwrap();
        let device = dir.path().join("device.pem");
        fs::write(&device, &issued.certificate_pem).unwrap();
        let root = authority.root_path();
        assert_eq!(verify(&dir, &root, &device, "sslclient", NOW), Some(true));
        let public = |args: &[&str]| openssl(args, dir.path()).unwrap().1;
        assert_eq!(
            public(&["x509", "-in", "device.pem", "-noout", "-pubkey"]),
            public(&["pkey", "-in", "device.key", "-pubout"])
        );
    }
}
