//! Debian packages that tests need: installed where we may, named where we may not.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A script that tells Debian's packages not to start what they bring.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Held while packages are installed; only root can make it.
const INSTALLING: &str = "/var/cache/apt/covey-testbed.lock";
/// What the conformance suite needs beside the services, each with a program or a file that it brings.
const OF_CONFORMANCE: [(&str, &str); 18] = [
    ("avahi-daemon", "avahi-daemon"),
    ("avahi-utils", "avahi-browse"),
    ("curl", "curl"),
    ("dbus-daemon", "dbus-daemon"),
    ("iproute2", "ip"),
    ("chromium", "/usr/bin/chromium"),
    ("chromium-driver", "/usr/bin/chromedriver"),
    ("faketime", "faketime"),
    ("libcoap3-bin", "coap-client-notls"),
    ("libnginx-mod-http-js", "/usr/lib/nginx/modules/ngx_http_js_module.so"),
    ("libnginx-mod-stream", "/usr/lib/nginx/modules/ngx_stream_module.so"),
    ("mosquitto-clients", "mosquitto_pub"),
    ("nodejs", "node"),
    ("npm", "npm"),
    ("openssl", "openssl"),
    ("prometheus", "promtool"),
    ("python3-venv", "python3"),
    ("sslscan", "sslscan"),
];
/// How long to wait while another program installs packages, in seconds.
const APT_LOCK_SECONDS_MAX: &str = "DPkg::Lock::Timeout=600";
/// Folders of programs that are often not on the PATH of a user.
const MORE_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Whether we are root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where a program is.
pub fn find_program(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend(MORE_FOLDERS.iter().map(std::path::PathBuf::from));
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .map(|file| file.display().to_string())
}

/// Whether a program is found, or a file is there.
fn is_there(program: &str) -> bool {
    if program.starts_with('/') { Path::new(program).exists() } else { find_program(program).is_some() }
}

/// Installs what the conformance suite needs and is missing.
pub fn install_for_conformance() -> Result<()> {
    // python3 may be there without what a venv needs.
    let has_venv = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .output()
        .is_ok_and(|done| done.status.success());
    let is_missing =
        |(package, program): &&(&str, &str)| !is_there(program) || (*package == "python3-venv" && !has_venv);
    let missing: Vec<&str> = OF_CONFORMANCE.iter().filter(is_missing).map(|(package, _)| *package).collect();
    install(&missing)
}

/// Installs packages with apt-get, without starting what they bring.
pub fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if !is_root() || find_program("apt-get").is_none() {
        bail!("missing: {names}; install with: sudo apt-get install --no-install-recommends {names}");
    }
    // The policy below is one for the whole machine, and so is this lock.
    let _one_at_a_time = lock(Path::new(INSTALLING))?;
    eprintln!("testbed: installing {names}");
    let _policy = StartNothing::begin()?;
    // What they print is not shown: `env` prints lines for a shell.
    output_of(Command::new("apt-get").args(["-qq", "-o", APT_LOCK_SECONDS_MAX, "update"]))?;
    output_of(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "-o", APT_LOCK_SECONDS_MAX, "install", "-y", "--no-install-recommends"])
            .args(packages),
    )
    .map(drop)
}

/// Waits until nobody else holds a file, and holds it.
pub fn lock(path: &Path) -> Result<fs::File> {
    let cannot = || format!("cannot lock {}", path.display());
    let file = fs::File::create(path).with_context(cannot)?;
    file.lock().with_context(cannot)?;
    Ok(file)
}

/// The path of a program, which a Debian package brings that is installed when it is missing.
pub fn program(name: &str, package: &str) -> Result<String> {
    if let Some(path) = find_program(name) {
        return Ok(path);
    }
    install(&[package])?;
    find_program(name).with_context(|| format!("no program {name}, though {package} is installed"))
}

/// While it lives, installed packages do not start their services, which
/// would take the usual ports of this machine.
struct StartNothing {
    is_ours: bool,
}

impl StartNothing {
    fn begin() -> Result<Self> {
        let is_ours = !Path::new(POLICY).exists();
        if is_ours {
            // 101: the action is forbidden (Debian's invoke-rc.d, policy-rc.d interface).
            crate::secret::write(Path::new(POLICY), "#!/bin/sh\nexit 101\n", 0o755)?;
        }
        Ok(Self { is_ours })
    }
}

impl Drop for StartNothing {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = std::fs::remove_file(POLICY)
        {
            eprintln!("testbed: remove {POLICY} by hand, it keeps packages from starting services: {error}");
        }
    }
}

/// The mirror that this machine takes Debian packages from.
pub fn debian_mirror() -> Result<String> {
    let mut texts = vec![];
    let mut files = vec![Path::new("/etc/apt/sources.list").to_owned()];
    if let Ok(folder) = std::fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(folder.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    }
    files.sort();
    for file in files {
        texts.extend(std::fs::read_to_string(file));
    }
    mirror_in(&texts.join("\n"))
        .context("no mirror of Debian in /etc/apt/sources.list nor in /etc/apt/sources.list.d")
}

/// The first address of a Debian archive in the text of apt's lists.
fn mirror_in(text: &str) -> Option<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.starts_with("http") && word.ends_with("/debian"))
        .map(str::to_owned)
}

/// What a command prints, which must end well.
pub fn output_of(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        // Arguments are left out: they may hold a password.
        bail!("{program} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number of a user.
pub fn user_id(name: &str) -> Result<u32> {
    let text = output_of(Command::new("id").args(["-u", name]))?;
    text.trim().parse().with_context(|| format!("there is no user {name}"))
}

#[cfg(test)]
mod tests {
    use super::mirror_in;

    #[test]
    fn both_forms_of_lists_tell_the_mirror() {
        let new = "Types: deb\n# http://old.example/archive/debian/1\nURIs: http://new.example/debian/\n";
        assert_eq!(mirror_in(new).as_deref(), Some("http://new.example/debian"));
        let old =
            "# deb http://no.example/debian x\ndeb [signed-by=/k] https://m.example/debian bookworm main\n";
        assert_eq!(mirror_in(old).as_deref(), Some("https://m.example/debian"));
        let other =
            "deb https://other.example/node_20.x nodistro main\nURIs: http://m.example/debian-security\n";
        assert_eq!(mirror_in(other), None);
    }
}
