//! The first trip: what the jobs of a group said they would ask for, and what is
//! not remembered.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use covey_core::error::{Result, StorageFault};
use covey_core::event::EventKey;
use covey_core::id::{DeviceKey, OrgId, TaskId};
use covey_core::port::ReadSet;
use covey_core::task::{DeviceRef, Idempotency, Target};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::postgres::event::stored::{event_is_stored, stored_key};
use crate::postgres::fault::Failure;
use crate::postgres::locks::of_idempotency_key;
use crate::postgres::pipeline::{Reply, Step, values};
use crate::postgres::task::best;
use crate::postgres::write::cross_group_cache::{CrossGroupCache, DeviceName};
use crate::postgres::write::transaction::PostgresTransaction;
use crate::postgres::write::transaction_cache::{Best, OpenCount, Place, TransactionCache};
use crate::rows::{self, Columns, Read};

/// How many numbers are fetched for later groups. Those of a server that ends are never used.
const NUMBERS_AHEAD: i64 = 1_000;

/// What an answer is about.
type Keep<'n> = Box<dyn FnOnce(&mut TransactionCache, Vec<Row>) -> Read<()> + 'n>;

/// Statements, each with what is done with its rows.
#[derive(Default)]
struct Fetches<'s, 'n> {
    steps: Vec<Step<'s>>,
    keeps: Vec<Keep<'n>>,
    /// Whether any of them holds something until the commit.
    is_holding: bool,
}

impl<'s, 'n> Fetches<'s, 'n> {
    fn add(&mut self, step: Step<'s>, keep: impl FnOnce(&mut TransactionCache, Vec<Row>) -> Read<()> + 'n) {
        self.steps.push(step);
        self.keeps.push(Box::new(keep));
    }

    /// The same of a statement that holds what it finds.
    fn hold(&mut self, step: Step<'s>, keep: impl FnOnce(&mut TransactionCache, Vec<Row>) -> Read<()> + 'n) {
        self.is_holding = true;
        self.add(step, keep);
    }
}

impl<'s> PostgresTransaction<'s> {
    /// Fetches, and locks, in an order that all servers keep: keys, then tasks
    /// by their ids, then the best ones, which nobody waits for. What is
    /// remembered is neither fetched nor locked.
    pub(crate) fn prefetch(
        &mut self,
        reads: &ReadSet,
        cross_group: Option<&mut CrossGroupCache>,
    ) -> Result<(), Failure> {
        let numbers_ahead = if cross_group.is_some() { NUMBERS_AHEAD } else { 0 };
        if let Some(cross_group) = cross_group {
            self.cache.recall(cross_group, reads);
        }
        let mut fetches = Fetches::default();
        self.fetch_idempotency(reads, &mut fetches);
        self.fetch_tasks(reads, &mut fetches);
        self.fetch_best(reads, &mut fetches);
        self.fetch_targets(reads, &mut fetches);
        self.fetch_events(reads, &mut fetches);
        self.fetch_numbers(reads, numbers_ahead, &mut fetches);
        let Fetches { steps, keeps, is_holding } = fetches;
        if steps.is_empty() {
            return Ok(());
        }
        // A look that holds nothing is the same outside of the transaction, which
        // may then be the one statement that writes.
        let replies = if is_holding { self.trip(steps) } else { self.exchange(steps) };
        let replies = replies.map_err(|fault| self.failure.unwrap_or(Failure::OfAll(fault)))?;
        for (keep, reply) in keeps.into_iter().zip(replies) {
            if let Err(error) = keep(&mut self.cache, Reply::rows(reply)) {
                tracing::error!(%error, "PostgreSQL");
                return Err(Failure::OfJob(StorageFault::Io));
            }
        }
        Ok(())
    }

    fn fetch_idempotency<'n>(&self, reads: &'n ReadSet, fetches: &mut Fetches<'s, 'n>) {
        if reads.idempotency.is_empty() {
            return;
        }
        let keys: BTreeSet<&(OrgId, String)> = reads.idempotency.iter().collect();
        let numbers: BTreeSet<i64> = keys.iter().map(|(org, key)| of_idempotency_key(org.0, key)).collect();
        let numbers: Vec<i64> = numbers.into_iter().collect();
        fetches.hold(self.query(|sql| &sql.task.idempotency_lock, values![numbers]), |_, _| Ok(()));
        let orgs: Vec<i64> = keys.iter().map(|(org, _)| org.0).collect();
        let texts: Vec<String> = keys.iter().map(|(_, key)| key.clone()).collect();
        let step = self.query(|sql| &sql.task.idempotency, values![orgs, texts]);
        fetches.add(step, move |cache, rows| {
            cache.idempotency.extend(keys.into_iter().map(|key| (key.clone(), None)));
            for row in rows {
                let (key, entry) = idempotency(&row)?;
                cache.idempotency.insert(key, Some(entry));
            }
            Ok(())
        });
    }

    fn fetch_tasks<'n>(&self, reads: &'n ReadSet, fetches: &mut Fetches<'s, 'n>) {
        let ids = reads.tasks.iter().map(|(_, id)| *id).filter(|id| !self.cache.tasks.contains_key(id));
        let ids: BTreeSet<TaskId> = ids.collect();
        if ids.is_empty() {
            return;
        }
        let uuids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let step = self.query(|sql| &sql.task.tasks_open, values![uuids]);
        fetches.hold(step, move |cache, rows| {
            cache.not_open.extend(ids);
            for row in rows {
                let task = rows::task(&row)?;
                cache.not_open.remove(&task.id);
                cache.remember(task, Place::Open, None);
            }
            Ok(())
        });
    }

    fn fetch_best<'n>(&self, reads: &'n ReadSet, fetches: &mut Fetches<'s, 'n>) {
        if reads.best.is_empty() {
            return;
        }
        let devices: BTreeSet<(DeviceKey, OrgId)> =
            reads.best.iter().map(|(org, device)| (*device, *org)).collect();
        let orgs: Vec<i64> = devices.iter().map(|(_, org)| org.0).collect();
        let keys: Vec<i64> = devices.iter().map(|(device, _)| device.0).collect();
        let values = values![orgs, keys, self.now.0];
        let step = self.query(|sql| &sql.task.tasks_best, values);
        fetches.hold(step, |cache, rows| {
            for row in rows {
                let device = rows::get(&row, rows::TASK_COLUMNS)?;
                let best = best(&row)?;
                if let Best::Task(_) = best {
                    cache.remember(rows::task(&row)?, Place::Open, None);
                }
                cache.best.insert(device, best);
            }
            Ok(())
        });
    }

    fn fetch_targets<'n>(&self, reads: &'n ReadSet, fetches: &mut Fetches<'s, 'n>) {
        let mut by_id: BTreeMap<(OrgId, i64), i64> = BTreeMap::new();
        let mut by_sn: BTreeMap<(OrgId, &str), i64> = BTreeMap::new();
        for (org, device, bound) in &reads.targets {
            if self.cache.targets.contains_key(&(*org, DeviceName::from(device))) {
                continue;
            }
            let counted_to = match device {
                DeviceRef::Id(id) => by_id.entry((*org, id.0)).or_default(),
                DeviceRef::Sn(sn) => by_sn.entry((*org, sn.as_str())).or_default(),
            };
            *counted_to = (*counted_to).max(i64::from(*bound));
        }
        if !by_id.is_empty() {
            let orgs: Vec<i64> = by_id.keys().map(|(org, _)| org.0).collect();
            let ids: Vec<i64> = by_id.keys().map(|(_, id)| *id).collect();
            let bounds: Vec<i64> = by_id.values().copied().collect();
            let values = values![orgs, ids, bounds];
            fetches.add(self.query(|sql| &sql.device.targets_by_id, values), move |cache, rows| {
                cache.targets.extend(by_id.keys().map(|(org, id)| ((*org, DeviceName::Id(*id)), None)));
                keep_targets(cache, &rows, |target| {
                    let name = DeviceName::Id(target.device_id.0);
                    let bound = by_id.get(&(target.org, target.device_id.0)).copied().unwrap_or(0);
                    (name, bound)
                })
            });
        }
        if !by_sn.is_empty() {
            let orgs: Vec<i64> = by_sn.keys().map(|(org, _)| org.0).collect();
            let sns: Vec<String> = by_sn.keys().map(|(_, sn)| (*sn).to_owned()).collect();
            let bounds: Vec<i64> = by_sn.values().copied().collect();
            let values = values![orgs, sns, bounds];
            fetches.add(self.query(|sql| &sql.device.targets_by_sn, values), move |cache, rows| {
                cache
                    .targets
                    .extend(by_sn.keys().map(|(org, sn)| ((*org, DeviceName::Sn((*sn).to_owned())), None)));
                keep_targets(cache, &rows, |target| {
                    let name = DeviceName::Sn(target.sn.as_str().to_owned());
                    let bound = by_sn.get(&(target.org, target.sn.as_str())).copied().unwrap_or(0);
                    (name, bound)
                })
            });
        }
    }

    /// Nothing is locked for it: whoever stores the same event at once finds that
    /// out when it writes, and looks again.
    fn fetch_events<'n>(&self, reads: &ReadSet, fetches: &mut Fetches<'s, 'n>) {
        let dev_timestamp = self.now;
        let of_now = reads.events_of_now.iter();
        let of_now = of_now
            .map(|(device, dev_event_id)| (*device, EventKey { dev_event_id: *dev_event_id, dev_timestamp }));
        let events: Vec<_> = reads.events.iter().copied().chain(of_now).collect();
        if events.is_empty() {
            return;
        }
        fetches.add(event_is_stored(self.session, events.iter()), move |cache, rows| {
            cache.events.extend(events.into_iter().map(|event| (event, false)));
            for row in rows {
                cache.events.insert(stored_key(&row)?, true);
            }
            Ok(())
        });
    }

    fn fetch_numbers<'n>(&self, reads: &ReadSet, ahead: i64, fetches: &mut Fetches<'s, 'n>) {
        let missing = |wanted: u32, numbers: &VecDeque<i64>| {
            let missing = i64::from(wanted) - i64::try_from(numbers.len()).unwrap_or(i64::MAX);
            if missing > 0 { missing + ahead } else { 0 }
        };
        let tasks = missing(reads.tasks_new, &self.cache.task_numbers);
        let results = missing(reads.results_new, &self.cache.result_numbers);
        if tasks + results == 0 {
            return;
        }
        let values = values![tasks, results];
        let step = self.query(|sql| &sql.task.numbers, values);
        fetches.add(step, |cache, rows| keep_numbers(cache, &rows));
    }
}

/// Numbers in ascending order, as they are to be used.
pub(crate) fn keep_numbers(cache: &mut TransactionCache, rows: &[Row]) -> Read<()> {
    for row in rows {
        let numbers = if rows::get(row, 1)? { &mut cache.task_numbers } else { &mut cache.result_numbers };
        numbers.push_back(rows::get(row, 0)?);
    }
    cache.task_numbers.make_contiguous().sort_unstable();
    cache.result_numbers.make_contiguous().sort_unstable();
    Ok(())
}

fn keep_targets(
    cache: &mut TransactionCache,
    rows: &[Row],
    name: impl Fn(&Target) -> (DeviceName, i64),
) -> Read<()> {
    let mut counts = HashMap::new();
    for row in rows {
        let target = rows::target(row)?;
        let (name, bound) = name(&target);
        counts.insert(target.device, OpenCount { counted: rows::get(row, 4)?, bound });
        cache.targets.insert((target.org, name), Some(target));
    }
    cache.open_counts.extend(counts);
    Ok(())
}

/// What a key was used for, from `org_id, key, request_digest, task_id, created_at`.
pub(crate) fn idempotency(row: &dyn Columns) -> Read<((OrgId, String), Idempotency)> {
    Ok(((rows::get(row, 0)?, rows::get(row, 1)?), rows::idempotency_at(row, 2)?))
}
