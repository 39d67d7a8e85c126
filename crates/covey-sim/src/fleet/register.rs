//! Getting the devices of a fleet: those of earlier runs that the server still
//! knows, and new registrations for the rest.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use covey_client::{Client, DeviceFilter, DeviceNew, DeviceTags, PageRequest};
use covey_device::Identity;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::fleet::identities::{Identities, StoredIdentity};

/// Registrations under way at a time.
const REGISTRATIONS_MAX: usize = 24;
/// Devices on a page of the server's list.
const PAGE_DEVICES: u32 = 1_000;
/// Every simulated device has this tag.
const TAG: &str = "sim";
const TAG_VALUE: &str = "true";

/// Which devices are wanted.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// How many.
    pub count: NonZeroU32,
    /// Their SNs are this, a hyphen and a number from 1.
    pub prefix: String,
    /// Where their certificates and keys are kept.
    pub identities: PathBuf,
    /// The CA of the server's devices, if it is known: identities of another
    /// server are not used again.
    pub ca_pem: Option<String>,
}

/// A device that can be simulated.
#[derive(Clone)]
pub struct Member {
    /// Its SN.
    pub sn: Arc<str>,
    /// Its number at the server; 0 if it is not known.
    pub device_id: i64,
    pub(crate) ca_pem: Arc<str>,
    pub(crate) certificate_pem: Arc<str>,
    pub(crate) private_key_pem: Arc<str>,
    /// The folder in which it stores its next certificate, and the server that it gets that from.
    pub(crate) renewal: Option<(Arc<Path>, Arc<str>)>,
}

/// Devices that can be simulated. As long as this lives, no other program uses
/// their identities.
pub struct Fleet {
    /// The devices, in the order of their SNs.
    pub members: Vec<Member>,
    /// How many of them were registered now.
    pub registered: usize,
    _identities: Option<Identities>,
}

impl Fleet {
    /// Gets the devices, with a progress bar on standard error if that is a
    /// terminal.
    ///
    /// # Errors
    /// Those of the folder, a device that is taken, and refusals of the server.
    pub async fn prepare(client: &Client, options: &FleetOptions) -> Result<Self> {
        let mut identities = Identities::open(&options.identities)?;
        let known = known_sns(client).await?;
        let is_of_server = |identity: &StoredIdentity| {
            options.ca_pem.as_ref().is_none_or(|ca_pem| ca_pem.trim() == identity.ca_pem.trim())
        };
        let mut found = Vec::new();
        let mut wanted = Vec::new();
        for sn in sns(&options.prefix, options.count) {
            match identities.take(&sn).filter(is_of_server) {
                Some(identity) if known.contains(&sn) => found.push(identity),
                earlier => wanted.push(Wanted { sn, earlier }),
            }
        }
        let mut registered = 0;
        register_all(client, wanted, &options.identities, |identity| {
            if let Found::Registered(identity) = &identity {
                identities.add(identity)?;
                registered += 1;
            }
            found.push(identity.into_identity());
            Ok(())
        })
        .await?;
        found.sort_by(|one, other| one.sn.cmp(&other.sn));
        Ok(Self { members: members(found), registered, _identities: Some(identities) })
    }

    /// One device from a folder with `ca.pem`, `cert.pem` and `key.pem`.
    ///
    /// # Errors
    /// Those of the device SDK, which say what is wrong with the folder.
    pub fn of_folder(dir: &Path) -> Result<Self> {
        // Reads the files with messages that name them.
        let sn = Identity::from_dir(dir)?.sn().to_owned();
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).map_err(|source| Error::Identities { path, source })
        };
        let member = Member {
            sn: Arc::from(sn),
            device_id: 0,
            ca_pem: Arc::from(read("ca.pem")?),
            certificate_pem: Arc::from(read("cert.pem")?),
            private_key_pem: Arc::from(read("key.pem")?),
            renewal: None,
        };
        Ok(Self { members: vec![member], registered: 0, _identities: None })
    }

    /// The same, whose device renews its certificate from the server's HTTPS listener, `https://host:port`, and stores it in
    /// the folder.
    ///
    /// # Errors
    /// Those of [`of_folder`](Self::of_folder).
    pub fn of_folder_renewing(dir: &Path, url: &str) -> Result<Self> {
        let mut fleet = Self::of_folder(dir)?;
        for member in &mut fleet.members {
            member.renewal = Some((Arc::from(dir), Arc::from(url)));
        }
        Ok(fleet)
    }
}

/// Finds the broker for the device of this folder on the local network, as `mqtts://host:port`; `name` is that of the
/// server, where there are several.
///
/// # Errors
/// Those of the device SDK: a folder that cannot be used, no server, or several.
pub async fn discover_broker(dir: &Path, name: Option<&str>) -> Result<String> {
    Ok(covey_device::discover(&Identity::from_dir(dir)?, name).await?)
}

/// A device that is to be registered.
struct Wanted {
    sn: String,
    /// An identity of an earlier run. Somebody may have taken its tag away, so
    /// that the server did not list it.
    earlier: Option<StoredIdentity>,
}

/// What came of it.
enum Found {
    Registered(StoredIdentity),
    Earlier(StoredIdentity),
}

impl Found {
    fn into_identity(self) -> StoredIdentity {
        match self {
            Self::Registered(identity) | Self::Earlier(identity) => identity,
        }
    }
}

fn sns(prefix: &str, count: NonZeroU32) -> impl Iterator<Item = String> {
    (1..=count.get()).map(move |number| format!("{prefix}-{number:05}"))
}

/// Devices of one server share their CA, in memory too.
fn members(identities: Vec<StoredIdentity>) -> Vec<Member> {
    let mut ca_pem: Arc<str> = Arc::from("");
    let member = |identity: StoredIdentity| {
        if *ca_pem != *identity.ca_pem {
            ca_pem = Arc::from(identity.ca_pem);
        }
        Member {
            sn: Arc::from(identity.sn),
            device_id: identity.device_id,
            ca_pem: Arc::clone(&ca_pem),
            certificate_pem: Arc::from(identity.certificate_pem),
            private_key_pem: Arc::from(identity.private_key_pem),
            renewal: None,
        }
    };
    identities.into_iter().map(member).collect()
}

/// The simulated devices that the server knows.
async fn known_sns(client: &Client) -> Result<HashSet<String>> {
    let filter = DeviceFilter { tag: Some(TAG.to_owned()), ..DeviceFilter::default() };
    let mut known = HashSet::new();
    for page in 1.. {
        let devices = client.device_list(&filter, PageRequest { page, size: PAGE_DEVICES }).await?;
        let is_last = devices.items.len() < PAGE_DEVICES as usize;
        let before = known.len();
        known.extend(devices.items.into_iter().map(|device| device.sn.into_owned()));
        // A server that does not page gives everything at once, and again.
        if is_last || known.len() == before {
            break;
        }
    }
    Ok(known)
}

async fn register_all(
    client: &Client,
    wanted: Vec<Wanted>,
    dir: &Path,
    mut keep: impl FnMut(Found) -> Result<()>,
) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let bar = progress_bar("registering", wanted.len());
    let wanted: Arc<[Wanted]> = Arc::from(wanted);
    let next = Arc::new(AtomicUsize::new(0));
    let (done, mut registered) = mpsc::channel(REGISTRATIONS_MAX);
    let mut workers = JoinSet::new();
    for _ in 0..REGISTRATIONS_MAX.min(wanted.len()) {
        let (client, wanted) = (client.clone(), Arc::clone(&wanted));
        let (next, done, dir) = (Arc::clone(&next), done.clone(), dir.to_owned());
        workers.spawn(async move {
            while let Some(wanted) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                if done.send(register(&client, wanted, &dir).await).await.is_err() {
                    break;
                }
            }
        });
    }
    drop(done);
    // Dropped on the first error, which ends the workers; what they have registered by then is
    // kept, so all that have come are taken first.
    let mut outcome = Ok(());
    while let Some(identity) = registered.recv().await {
        match identity.and_then(&mut keep) {
            Ok(()) => bar.inc(1),
            Err(error) if outcome.is_ok() => {
                outcome = Err(error);
                next.store(usize::MAX / 2, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }
    bar.finish_and_clear();
    outcome
}

async fn register(client: &Client, wanted: &Wanted, dir: &Path) -> Result<Found> {
    let tags = BTreeMap::from([(TAG.to_owned(), TAG_VALUE.to_owned())]);
    let request =
        DeviceNew { sn: Some(wanted.sn.clone()), tags: Some(DeviceTags(tags)), ..DeviceNew::default() };
    match client.device_register(&request).await {
        Ok(registered) => StoredIdentity::of(registered).map(Found::Registered),
        Err(error) if error.status() == Some(409) => match &wanted.earlier {
            Some(earlier) => Ok(Found::Earlier(earlier.clone())),
            None => Err(Error::DeviceTaken { sn: wanted.sn.clone(), dir: dir.to_owned() }),
        },
        Err(error) => Err(error.into()),
    }
}

/// Shown on standard error if that is a terminal, else nowhere.
pub(crate) fn progress_bar(what: &'static str, count: usize) -> ProgressBar {
    let bar = ProgressBar::new(count as u64).with_message(what);
    match ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} {per_sec}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sns_are_a_prefix_and_a_number() {
        let sns: Vec<_> = sns("sim", NonZeroU32::new(2).unwrap()).collect();
        assert_eq!(sns, ["sim-00001", "sim-00002"]);
    }

    #[test]
    fn a_folder_without_an_identity_is_told_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = Fleet::of_folder(dir.path()).err().unwrap();
        assert!(error.to_string().contains("covey device add"), "{error}");
    }
}
