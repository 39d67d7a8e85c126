//! The suite of tests with clients that others wrote, and what it needs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::root;
use crate::step::{cargo, is_installed, run, step};

/// Debian packages that the suite needs, each with a program or a file that it brings.
const PACKAGES: [(&str, &str); 6] = [
    ("curl", "curl"),
    ("libnginx-mod-stream", "/usr/lib/nginx/modules/ngx_stream_module.so"),
    ("mosquitto-clients", "mosquitto_pub"),
    ("nginx", "/usr/sbin/nginx"),
    ("openssl", "openssl"),
    ("python3-venv", "python3"),
];

/// The binary that is tested: `COVEY_BIN`, else the one that cargo builds.
pub fn binary() -> PathBuf {
    std::env::var_os("COVEY_BIN").map_or_else(|| root().join("target/debug/covey"), PathBuf::from)
}

pub fn run_suite(arguments: &[String]) -> Result<()> {
    step("what the conformance suite needs", prepare)?;
    step("building the binary", || cargo(&["build", "--package", "covey", "--locked", "--quiet"]))?;
    // Nothing is said after it: what its runner says is what a reader looks for.
    let mut pytest = Command::new(venv().join("bin/pytest"));
    run(pytest.arg("conformance").args(arguments).env("COVEY_BIN", binary()))
}

fn venv() -> PathBuf {
    root().join("target/conformance-venv")
}

fn prepare() -> Result<()> {
    install_packages()?;
    let python = venv().join("bin/python");
    let requirements = root().join("conformance/requirements.txt");
    let wanted = std::fs::read(&requirements)?;
    let stamp = venv().join("requirements.installed");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(venv()))?;
    run(Command::new(python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&requirements))?;
    Ok(std::fs::write(stamp, wanted)?)
}

fn install_packages() -> Result<()> {
    let mut missing: Vec<&str> =
        PACKAGES.iter().filter(|(_, program)| !is_installed(program)).map(|(package, _)| *package).collect();
    // python3 may be there without what a venv needs.
    let has_venv =
        Command::new("python3").args(["-c", "import venv, ensurepip"]).status().is_ok_and(|s| s.success());
    if !has_venv && !missing.contains(&"python3-venv") {
        missing.push("python3-venv");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let is_root = crate::step::output(Command::new("id").arg("-u"))?.trim() == "0";
    if !is_root || !is_installed("apt-get") {
        bail!("missing: {0}; install with: sudo apt-get install {0}", missing.join(" "));
    }
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    run(Command::new("apt-get").args(["-qq", "install", "-y", "--no-install-recommends"]).args(&missing))
}
