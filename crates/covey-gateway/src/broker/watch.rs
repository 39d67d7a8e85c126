//! From the engine to the board: which nodes of an organisation are there, and what they say, on whichever server their
//! gateway is. It follows the outbox, so what is told was committed; what came before is read once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use covey_core::Engine;
use covey_core::access::{Caller, Rights};
use covey_core::device::{DeviceFilter, DeviceIdentity, Presence};
use covey_core::error::Error;
use covey_core::feed::{Batch, FollowError};
use covey_core::id::{DeviceId, DeviceKey, OrgId, Sn};
use covey_core::node::GATEWAY_CHARS_MAX;
use covey_core::port::PageRequest;
use covey_core::record::{Change, Record, RecordFilter, RecordKind, TwinSide};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::broker::board::{Board, Said, rank};
use crate::engine::UID;

/// How long it is waited after the store has failed, in milliseconds.
const PAUSE_MS: u64 = 1_000;
/// How many devices that are connected are read at once.
const PAGE: u32 = 1_000;
/// How many nodes are looked up at the same time.
const LOOKS_AT_ONCE: usize = 16;
/// How large a device may be that is looked up, in bytes: with all of its tags.
const DEVICE_BYTES: usize = 1024 * 1024;
/// How much older than its connection a value may be that was said over it, in milliseconds: two clocks are read.
const SLACK_MS: i64 = 50;
/// How long it is believed that a device which reports values is a node that is not there, in milliseconds.
const AWAY_MS: u64 = 1_000;
/// How long it is believed that it is no node, in milliseconds.
const OTHER_MS: u64 = 60_000;
/// Of how many devices that is remembered.
/// Limit for the node broker: others are looked up again.
const OTHERS_MAX: usize = 100_000;

/// A node on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its registration.
    pub device: DeviceKey,
    /// Its number for applications.
    pub id: DeviceId,
}

impl Key {
    /// That of a device.
    #[must_use]
    pub fn of(identity: &DeviceIdentity) -> Self {
        Self { device: identity.device, id: identity.device_id }
    }
}

/// A caller of the server's own in an organisation, with these rights and no other.
pub(super) fn caller(org: OrgId, rights: Rights) -> Caller {
    Caller::server(org, "node-broker", rights)
}

/// Follows the nodes of an organisation.
pub struct Watch {
    engine: Arc<Engine>,
    viewer: Caller,
    board: Arc<Board<Key>>,
    /// Devices that report values and are no nodes that are there, and until when that is believed.
    others: Mutex<HashMap<DeviceKey, Instant>>,
}

/// A node that is there, with what it has said since it came.
struct Shown {
    uid: Arc<str>,
    values: Vec<Said>,
}

/// What a device turns out to be.
enum Looked {
    Node(Shown),
    /// It may be a node, which is not there.
    Away,
    /// It has a connection of its own.
    Other,
}

impl Watch {
    /// One that shows the nodes of an organisation on a board.
    #[must_use]
    pub fn new(engine: Arc<Engine>, org: OrgId, board: Arc<Board<Key>>) -> Self {
        Self { engine, viewer: caller(org, Rights::DEVICES_READ), board, others: Mutex::default() }
    }

    /// Follows until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while let Some(error) = stop.run_until_cancelled(self.follow()).await {
            tracing::warn!(%error, "the node broker cannot follow what nodes say; it tries again");
            let pause = tokio::time::sleep(Duration::from_millis(PAUSE_MS));
            let _ = stop.run_until_cancelled(pause).await;
        }
    }

    /// Follows until the store fails.
    async fn follow(&self) -> Error {
        let begun = async {
            let span = self.engine.server().record_span_of_every_org().await?;
            self.load().await?;
            Ok(span.settled)
        };
        let mut cursor = match begun.await {
            Ok(cursor) => cursor,
            Err(error) => return error,
        };
        let kinds = vec![RecordKind::Presence, RecordKind::Twin];
        let filter = RecordFilter { kinds, ..RecordFilter::default() };
        loop {
            let mut follower = self.engine.server().follow_of_org(self.viewer.org, filter.clone(), cursor);
            loop {
                match follower.next().await {
                    Ok(batch) => {
                        if let Err(error) = self.apply(&batch).await {
                            return error;
                        }
                    }
                    Err(FollowError::TooSlow) => break,
                    Err(FollowError::Store(error)) => return error,
                }
            }
            cursor = follower.cursor();
        }
    }

    /// Brings the board to what is so now.
    async fn load(&self) -> Result<(), Error> {
        let (mut after, mut online) = (DeviceKey(0), HashSet::new());
        loop {
            let page = self.engine.server().presence_online(after, PAGE).await?;
            let Some(last) = page.last().map(|found| found.device.device) else { break };
            after = last;
            let is_node = |details: &[(String, String)]| details.iter().any(|(name, _)| name == UID);
            let nodes = page
                .into_iter()
                .filter(|found| found.device.org == self.viewer.org && is_node(&found.details));
            let mut looks =
                stream::iter(nodes.map(|found| self.look(found.device))).buffer_unordered(LOOKS_AT_ONCE);
            while let Some((key, looked)) = looks.try_next().await? {
                if let Looked::Node(Shown { uid, values }) = looked {
                    online.insert(key);
                    self.board.change().appear(&key, &uid, &values);
                }
            }
        }
        let known = self.board.keys();
        let mut change = self.board.change();
        known.iter().filter(|key| !online.contains(key)).for_each(|key| change.out(key));
        Ok(())
    }

    /// Looks whether a device is a node that is there.
    async fn look(&self, device: DeviceIdentity) -> Result<(Key, Looked), Error> {
        let (key, caller) = (Key::of(&device), self.engine.for_caller(&self.viewer));
        let filter = DeviceFilter { device_id: Some(device.device_id), ..DeviceFilter::default() };
        let page = caller.device_list(filter, PageRequest { page: 1, size: 1 }, DEVICE_BYTES).await?;
        let found = page.items.into_iter().find(|found| found.identity.device == device.device);
        let Some(presence) = found.and_then(|found| found.presence).filter(|presence| presence.online) else {
            return Ok((key, Looked::Away));
        };
        let Some(uid) = uid_of(&presence) else { return Ok((key, Looked::Other)) };
        let since = presence.connected_at.unwrap_or_default().plus_ms(-SLACK_MS);
        let twin = match caller.twin_get(device.device_id).await {
            Ok(twin) if twin.device.device == device.device => twin,
            Ok(_) | Err(Error::NotFound { .. }) => return Ok((key, Looked::Away)),
            Err(error) => return Err(error),
        };
        let values = twin.resources.into_iter().filter_map(|resource| {
            let reported = resource.reported.filter(|reported| reported.at >= since)?;
            Some(Said {
                resource: resource.name.into(),
                json: reported.value?,
                version: of_twin(reported.version),
            })
        });
        let mut values: Vec<Said> = values.collect();
        // What came first is told first.
        values.sort_by_key(|said| said.version);
        Ok((key, Looked::Node(Shown { uid: Arc::from(uid), values })))
    }

    /// Shows what has happened.
    async fn apply(&self, batch: &Batch) -> Result<(), Error> {
        let mut come: HashMap<Key, DeviceIdentity> = HashMap::new();
        for record in &batch.records {
            let (device, key) = (&record.device.identity, Key::of(&record.device.identity));
            if is_named_like_a_node(&device.sn)
                && !come.contains_key(&key)
                && self.may_have_come(record, &key)
            {
                come.insert(key, device.clone());
            }
        }
        let looks =
            stream::iter(come.into_values().map(|device| self.look(device))).buffer_unordered(LOOKS_AT_ONCE);
        let looked: HashMap<Key, Looked> = looks.try_collect().await?;
        self.remember_others(&looked);
        let mut records: Vec<&Record> = batch.records.iter().map(|record| &**record).collect();
        for report in
            records.chunk_by_mut(|one, other| report_of(one).is_some() && report_of(one) == report_of(other))
        {
            // Gateways may say together what a node is called and what it says.
            report.sort_by_key(|record| rank_of(record));
        }
        let mut change = self.board.change();
        for record in records {
            let key = Key::of(&record.device.identity);
            match &record.change {
                Change::Presence { online: true, .. } => {
                    if let Some(Looked::Node(Shown { uid, values })) = looked.get(&key) {
                        change.appear(&key, uid, values);
                    }
                }
                Change::Presence { online: false, .. } => change.out(&key),
                Change::Twin(told) if told.side == TwinSide::Reported => match &told.value {
                    Some(json) => {
                        // That it has come back after the server's end is not told.
                        if let Some(Looked::Node(Shown { uid, values })) = looked.get(&key)
                            && !change.has(&key)
                        {
                            change.appear(&key, uid, values);
                        }
                        let (resource, json) = (Arc::from(told.resource.as_str()), Arc::clone(json));
                        change.said(&key, &Said { resource, json, version: of_record(told.version) });
                    }
                    None => change.lost(&key, &told.resource),
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a device may be a node that has just come.
    fn may_have_come(&self, record: &Record, key: &Key) -> bool {
        match &record.change {
            Change::Presence { online, .. } => *online,
            Change::Twin(told) if told.side == TwinSide::Reported => {
                let until = self.others().get(&key.device).copied();
                until.is_none_or(|until| until <= Instant::now()) && !self.board.change().has(key)
            }
            _ => false,
        }
    }

    fn remember_others(&self, looked: &HashMap<Key, Looked>) {
        let mut others = self.others();
        let now = Instant::now();
        for (key, looked) in looked {
            let ms = match looked {
                Looked::Node(_) => continue,
                Looked::Away => AWAY_MS,
                Looked::Other => OTHER_MS,
            };
            others.insert(key.device, now + Duration::from_millis(ms));
        }
        if others.len() > OTHERS_MAX {
            others.retain(|_, until| *until > now);
            if others.len() > OTHERS_MAX {
                others.clear();
            }
        }
    }

    fn others(&self) -> MutexGuard<'_, HashMap<DeviceKey, Instant>> {
        // What it guards is whole at every moment.
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The version of a value that was read from a twin. Records of the same report are older: of one resource it may have
/// several, and the twin has the last.
const fn of_twin(version: i64) -> i64 {
    2 * version + 1
}

/// The version of a value that a record tells.
const fn of_record(version: i64) -> i64 {
    2 * version
}

/// Which report of which device a record is of.
fn report_of(record: &Record) -> Option<(DeviceKey, i64)> {
    match &record.change {
        Change::Twin(told) if told.side == TwinSide::Reported => {
            Some((record.device.identity.device, told.version))
        }
        _ => None,
    }
}

fn rank_of(record: &Record) -> u8 {
    match &record.change {
        Change::Twin(told) => rank(&told.resource),
        _ => 0,
    }
}

fn uid_of(presence: &Presence) -> Option<&str> {
    presence.details.iter().find(|(name, _)| name == UID).map(|(_, uid)| uid.as_str())
}

/// Whether a serial number begins with the name of a gateway.
fn is_named_like_a_node(sn: &Sn) -> bool {
    sn.as_str().split_once('-').is_some_and(|(gateway, _)| {
        (1..=GATEWAY_CHARS_MAX).contains(&gateway.len())
            && gateway.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}
