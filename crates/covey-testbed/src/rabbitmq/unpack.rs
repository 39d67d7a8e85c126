//! RabbitMQ 4, unpacked beside the system: nothing is installed, and root is not needed.
//!
//! Debian 12 has RabbitMQ 3.10, which does not speak MQTT 5. The packages of
//! Debian 13 with all that they need down to the C library are unpacked into
//! a folder, and their programs are told to look for libraries there. Another
//! release can be tried: with `COVEY_RABBITMQ_RELEASE=sid` that of Debian's
//! next one (RabbitMQ 4.3 with Erlang 29 in November 2026).

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::package::{self, find_program, output_of};
use crate::workspace;

/// The Debian release that the packages are of, unless the environment names another.
const RELEASE: &str = "trixie";
const RELEASE_VARIABLE: &str = "COVEY_RABBITMQ_RELEASE";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// RabbitMQ, the parts of Erlang that it needs, and the libraries that those need.
const PACKAGES: [&str; 26] = [
    "rabbitmq-server",
    "erlang-asn1",
    "erlang-base",
    "erlang-crypto",
    "erlang-eldap",
    "erlang-eunit",
    "erlang-inets",
    "erlang-mnesia",
    "erlang-os-mon",
    "erlang-parsetools",
    "erlang-public-key",
    "erlang-runtime-tools",
    "erlang-ssl",
    "erlang-syntax-tools",
    "erlang-tools",
    "erlang-xmerl",
    "libc6",
    "libcap2",
    "libgcc-s1",
    "libsctp1",
    "libssl3t64",
    "libstdc++6",
    "libsystemd0",
    "libtinfo6",
    "libzstd1",
    "zlib1g",
];
/// Written last: without it a folder was not finished.
const STAMP: &str = "complete";
const LOCK: &str = "rabbitmq4.lock";

/// The Debian release to take.
///
/// # Errors
/// The environment names one with characters that no release has: it becomes part of a path.
fn release() -> Result<String> {
    let Ok(release) = std::env::var(RELEASE_VARIABLE) else { return Ok(RELEASE.to_owned()) };
    if release.is_empty() || !release.bytes().all(|byte| byte.is_ascii_lowercase()) {
        bail!("{RELEASE_VARIABLE} is the name of a Debian release in small letters, not {release:?}");
    }
    Ok(release)
}

/// RabbitMQ's programs, unpacked.
#[derive(Clone, Debug)]
pub struct Installation {
    root: PathBuf,
    release: String,
}

impl Installation {
    /// The one in `target/tools`, unpacked when it is missing.
    pub fn open() -> Result<Self> {
        let tools = workspace().join("target/tools");
        let release = release()?;
        let folder = if release == RELEASE { "rabbitmq4".to_owned() } else { format!("rabbitmq4-{release}") };
        let installation = Self { root: tools.join(folder), release };
        if installation.is_complete() {
            return Ok(installation);
        }
        fs::create_dir_all(&tools)?;
        let _one_at_a_time = package::lock(&tools.join(LOCK))?;
        // Another call may have done it while we waited.
        if !installation.is_complete() {
            eprintln!("testbed: unpacking RabbitMQ 4 of Debian {} into target/tools", installation.release);
            installation.make()?;
        }
        Ok(installation)
    }

    fn is_complete(&self) -> bool {
        self.root.join(STAMP).exists()
    }

    /// The folder of `rabbitmq-server` and `rabbitmqctl`.
    pub fn programs(&self) -> Result<PathBuf> {
        one_in(&self.root.join("usr/lib/rabbitmq/lib"), "rabbitmq_server-").map(|server| server.join("sbin"))
    }

    /// The folder of `erl`.
    pub fn erlang_programs(&self) -> PathBuf {
        self.erlang().join("bin")
    }

    /// The name service of Erlang's nodes.
    pub fn epmd(&self) -> Result<PathBuf> {
        one_in(&self.erlang(), "erts-").map(|erts| erts.join("bin/epmd"))
    }

    fn erlang(&self) -> PathBuf {
        self.root.join("usr/lib/erlang")
    }

    fn make(&self) -> Result<()> {
        install_what_unpacks()?;
        if self.root.exists() {
            fs::remove_dir_all(&self.root)?;
        }
        let work = self.root.join("unpacking");
        fs::create_dir_all(work.join("lists/partial"))?;
        fs::create_dir_all(work.join("packages"))?;
        self.download(&work)?;
        for package in fs::read_dir(work.join("packages"))?.flatten() {
            output_of(Command::new("dpkg").arg("-x").arg(package.path()).arg(&self.root))?;
        }
        fs::remove_dir_all(&work)?;
        self.point_programs_at_our_libraries()?;
        self.point_erl_at_itself()?;
        fs::write(self.root.join(STAMP), "")?;
        Ok(())
    }

    /// Takes the packages through apt-get, which checks their signatures, with
    /// lists and a state of our own.
    fn download(&self, work: &Path) -> Result<()> {
        let sources = work.join("sources.list");
        let mirror = package::debian_mirror()?;
        fs::write(&sources, format!("deb [signed-by={KEYRING}] {mirror} {} main\n", self.release))?;
        fs::write(work.join("status"), "")?;
        let user = output_of(Command::new("id").arg("-un"))?;
        let at = |name: &str| work.join(name).display().to_string();
        let options = [
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State={}", work.display()),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", work.display()),
            format!("APT::Sandbox::User={}", user.trim()),
        ];
        let apt_get = || {
            let mut command = Command::new("apt-get");
            command.arg("-qq").args(options.iter().flat_map(|option| ["-o", option.as_str()]));
            command.current_dir(work.join("packages"));
            command
        };
        output_of(apt_get().arg("update"))?;
        output_of(apt_get().arg("download").args(PACKAGES)).map(drop)
    }

    fn point_programs_at_our_libraries(&self) -> Result<()> {
        let (libraries, loader) = match std::env::consts::ARCH {
            "x86_64" => ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
            "aarch64" => ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
            other => bail!("do not know where Debian keeps libraries for {other}"),
        };
        let libraries = self.root.join("usr/lib").join(libraries);
        for file in files_below(&self.erlang())? {
            if !is_elf(&file)? {
                continue;
            }
            let mut patchelf = Command::new("patchelf");
            if file.extension().is_none_or(|extension| extension != "so") {
                patchelf.arg("--set-interpreter").arg(libraries.join(loader));
            }
            output_of(patchelf.args(["--force-rpath", "--set-rpath"]).arg(&libraries).arg(&file))?;
        }
        Ok(())
    }

    /// Debian's `erl` holds its folder as text and takes no other from the environment.
    fn point_erl_at_itself(&self) -> Result<()> {
        let erl_of_system = one_in(&self.erlang(), "erts-")?.join("bin/erl");
        for script in [self.erlang_programs().join("erl"), erl_of_system] {
            let text = fs::read_to_string(&script)?;
            let here = format!("ROOTDIR={}", self.erlang().display());
            let changed = text.replace("ROOTDIR=/usr/lib/erlang", &here);
            if !changed.contains(&here) {
                bail!("{} does not say where Erlang is, as it did", script.display());
            }
            fs::write(&script, changed)?;
        }
        Ok(())
    }
}

fn install_what_unpacks() -> Result<()> {
    if find_program("apt-get").is_none() || find_program("dpkg").is_none() {
        bail!("RabbitMQ 4 is unpacked from Debian's packages, which needs apt-get and dpkg");
    }
    let mut missing = Vec::new();
    if find_program("patchelf").is_none() {
        missing.push("patchelf");
    }
    if !Path::new(KEYRING).exists() {
        missing.push("debian-archive-keyring");
    }
    package::install(&missing)
}

/// The one entry whose name begins so.
fn one_in(folder: &Path, prefix: &str) -> Result<PathBuf> {
    fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .with_context(|| format!("{} holds no {prefix}*; remove target/tools/rabbitmq4", folder.display()))
}

/// All files, which may come to be written; links are not followed.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let mode = entry.metadata()?.permissions().mode();
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode | 0o600))?;
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

fn is_elf(file: &Path) -> Result<bool> {
    let mut start = [0; 4];
    let read = fs::File::open(file)?.read(&mut start)?;
    Ok(read == start.len() && start == *b"\x7fELF")
}
