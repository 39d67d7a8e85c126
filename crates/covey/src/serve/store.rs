//! The store that the settings name, and what comes with it: the clock that
//! decides, and the way to the other servers.

use std::sync::Arc;

use anyhow::Result;
use covey_core::port::FromPeers;
use covey_core::port::{Clock, NoPeers, Observer, Peers, Store};
use covey_pki::Authority;
use covey_store::postgres::{self, DatabaseClock, Postgres};
use covey_store::sqlite::{self, Disk, Sqlite};
use tokio::sync::mpsc;

use crate::deployment::CA_FACT;
use crate::fault;
use crate::serve::data_dir::DataDir;
use crate::serve::parts::SystemClock;
use crate::settings::{SQLITE, Settings};

/// How much news of other servers may wait to be taken in; what does not fit
/// is made up for by looking.
/// Limit for the server: it looks in the store.
const HEARD_MAX: usize = 1_024;

/// A store that is open.
pub struct OpenStore {
    pub store: Arc<dyn Store>,
    pub peers: Arc<dyn Peers>,
    /// What other servers tell; none for a server that is alone.
    pub heard: Option<mpsc::Receiver<FromPeers>>,
}

/// The clock of a deployment: with several servers the database's.
pub async fn clock(settings: &Settings) -> Result<Arc<dyn Clock>> {
    if settings.store.scheme() == SQLITE {
        return Ok(SystemClock::start());
    }
    let options = postgres_options(settings)?;
    Ok(blocking(move || DatabaseClock::start(&options)).await?)
}

/// The disk of a store that is in the data directory, with its reserve.
pub fn disk(settings: &Settings, data: &DataDir) -> Result<Option<Arc<Disk>>> {
    if settings.store.scheme() != SQLITE {
        return Ok(None);
    }
    let disk = Disk::open(data.path(), settings.disk_free_min.map(|bytes| bytes.0));
    disk.map(|disk| Some(Arc::new(disk))).map_err(|error| {
        fault::setup(format!("cannot look at the disk of {}: {error}", data.path().display()))
    })
}

/// Opens the store.
pub async fn open(
    settings: &Settings,
    data: &DataDir,
    disk: Option<Arc<Disk>>,
    authority: &Authority,
    clock: &Arc<dyn Clock>,
    observer: &Arc<dyn Observer>,
) -> Result<OpenStore> {
    let (clock, observer) = (Arc::clone(clock), Arc::clone(observer));
    if settings.store.scheme() == SQLITE {
        let file = sqlite::file_in(data.path());
        let options = sqlite::Options { disk, ..sqlite::Options::new(file) };
        let store = blocking(move || Sqlite::open(&options, clock, observer)).await?;
        return Ok(OpenStore { store: Arc::new(store), peers: Arc::new(NoPeers), heard: None });
    }
    let options = postgres_options(settings)?;
    let ca_fingerprint = authority.fingerprint_sha256();
    let (fingerprint, former) = (ca_fingerprint.clone(), authority.former_fingerprints_sha256());
    let (store, known) = blocking(move || {
        let store = Postgres::open(&options, clock, observer)?;
        let mut known = store.deployment_fact(CA_FACT, &fingerprint)?;
        if former.contains(&known) {
            known = store.deployment_fact_change(CA_FACT, former, &fingerprint)?;
            tracing::info!("another issuing CA has taken the place of that of before");
        }
        Ok((store, known))
    })
    .await?;
    if known != ca_fingerprint {
        return Err(fault::setup(format!(
            "the servers of this database use another CA than {}; start with --pki-from and the folder pki of one \
             of them, and an empty data directory",
            data.pki_path().display()
        )));
    }
    let (tell, heard) = mpsc::channel(HEARD_MAX);
    store.on_heard(Arc::new(move |news| {
        // What does not fit is found by looking (`work::catch_up`).
        let _ = tell.try_send(news);
    }));
    let peers = store.peers();
    Ok(OpenStore { store: Arc::new(store), peers, heard: Some(heard) })
}

fn postgres_options(settings: &Settings) -> Result<postgres::Options> {
    postgres::Options::new(settings.store.exposed(), &settings.server_name).map_err(fault::setup)
}

/// Opens something that waits for a disk or a network.
async fn blocking<T: Send + 'static>(
    open: impl FnOnce() -> Result<T, covey_store::StoreError> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(open).await?.map_err(fault::setup)
}
