//! A first start that is killed, at whatever instant, leaves a folder that the next start can use.

use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, path::Path, thread};

use covey_pki::{Authority, CertificateLifetimes};

use crate::NOW;

const DIR: &str = "COVEY_PKI_KILL_TEST_DIR";

/// What the process does that is killed: it makes one CA after the other.
fn make_authorities(dir: &Path) {
    for number in 0..10_000 {
        Authority::open_or_create(&dir.join(number.to_string()), CertificateLifetimes::default(), NOW)
            .unwrap();
    }
}

#[test]
fn a_killed_first_start_leaves_a_folder_that_opens() {
    // This very test, started once more as the process that is killed.
    if let Ok(dir) = env::var(DIR) {
        return make_authorities(Path::new(&dir));
    }
    let mut cut_off = 0;
    for round in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "kill::a_killed_first_start_leaves_a_folder_that_opens"])
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while fs::read_dir(dir.path()).unwrap().count() == 0 {
            thread::sleep(Duration::from_micros(50));
        }
        thread::sleep(Duration::from_micros(round * 337));
        child.kill().unwrap();
        child.wait().unwrap();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let pki = entry.unwrap().path();
            let complete = pki.join("issuing.pem").exists();
            let root_before = fs::read_to_string(pki.join("ca.pem")).ok();
            let authority = Authority::open_or_create(&pki, CertificateLifetimes::default(), NOW).unwrap();
            if let Some(root) = root_before {
                assert_eq!(root, authority.root_pem());
            }
            cut_off += usize::from(!complete);
        }
    }
    // Says that the kills did hit the making itself; where, differs from run to run.
    assert!(cut_off > 0, "no kill came while a CA was being made");
}
