//! The first trip: what the jobs of a group said they would ask for, and what is
//! not remembered.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use covey_core::error::StorageFault;
use covey_core::event::EventKey;
use covey_core::id::{DeviceKey, OrgId, TaskId};
use covey_core::port::Needs;
use covey_core::task::{DeviceRef, Idempotency, Target};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::postgres::fault::Failure;
use crate::postgres::locks::of_idempotency_key;
use crate::postgres::memory::Memory;
use crate::postgres::pipeline::{Reply, Step, query};
use crate::postgres::transaction::PostgresTransaction;
use crate::postgres::transaction::event::{stored_among, stored_key};
use crate::postgres::transaction::known::{Best, Known, Name, OpenCount, Place};
use crate::postgres::transaction::task::best;
use crate::rows;
use crate::rows::{Columns, Read};

/// How many numbers are fetched for later groups. Those of a server that ends are never used.
const NUMBERS_AHEAD: i64 = 1_000;

/// What an answer is about.
type Keep<'n> = Box<dyn FnOnce(&mut Known, Vec<Row>) -> Read<()> + 'n>;

/// Statements, each with what is done with its rows.
#[derive(Default)]
struct Fetches<'s, 'n> {
    steps: Vec<Step<'s>>,
    keeps: Vec<Keep<'n>>,
    /// Whether any of them holds something until the commit.
    is_holding: bool,
}

impl<'s, 'n> Fetches<'s, 'n> {
    fn add(&mut self, step: Step<'s>, keep: impl FnOnce(&mut Known, Vec<Row>) -> Read<()> + 'n) {
        self.steps.push(step);
        self.keeps.push(Box::new(keep));
    }

    /// The same of a statement that holds what it finds.
    fn hold(&mut self, step: Step<'s>, keep: impl FnOnce(&mut Known, Vec<Row>) -> Read<()> + 'n) {
        self.is_holding = true;
        self.add(step, keep);
    }
}

impl<'s> PostgresTransaction<'s> {
    /// Fetches, and locks, in an order that all servers keep: keys, then tasks
    /// by their ids, then the best ones, which nobody waits for. What is
    /// remembered is neither fetched nor locked.
    pub(in crate::postgres) fn fetch(
        &mut self,
        needs: &Needs,
        memory: Option<&mut Memory>,
    ) -> Result<(), Failure> {
        let numbers_ahead = if memory.is_some() { NUMBERS_AHEAD } else { 0 };
        if let Some(memory) = memory {
            self.known.recall(memory, needs);
        }
        let mut fetches = Fetches::default();
        self.fetch_idempotency(needs, &mut fetches);
        self.fetch_tasks(needs, &mut fetches);
        self.fetch_best(needs, &mut fetches);
        self.fetch_targets(needs, &mut fetches);
        self.fetch_events(needs, &mut fetches);
        self.fetch_numbers(needs, numbers_ahead, &mut fetches);
        let Fetches { steps, keeps, is_holding } = fetches;
        if steps.is_empty() {
            return Ok(());
        }
        // A look that holds nothing is the same outside of the transaction, which
        // may then be the one statement that writes.
        let replies = if is_holding { self.trip(steps) } else { self.exchange(steps) };
        let replies = replies.map_err(|fault| self.failure.unwrap_or(Failure::OfAll(fault)))?;
        for (keep, reply) in keeps.into_iter().zip(replies) {
            if let Err(error) = keep(&mut self.known, Reply::rows(reply)) {
                tracing::error!(%error, "PostgreSQL");
                return Err(Failure::OfJob(StorageFault::Io));
            }
        }
        Ok(())
    }

    fn fetch_idempotency<'n>(&self, needs: &'n Needs, fetches: &mut Fetches<'s, 'n>) {
        if needs.idempotency.is_empty() {
            return;
        }
        let keys: BTreeSet<&(OrgId, String)> = needs.idempotency.iter().collect();
        let numbers: BTreeSet<i64> = keys.iter().map(|(org, key)| of_idempotency_key(org.0, key)).collect();
        let numbers: Vec<i64> = numbers.into_iter().collect();
        let (client, sql) = (&self.session.client, &self.session.sql);
        fetches.hold(query(client, &sql.idempotency_lock, vec![Box::new(numbers)]), |_, _| Ok(()));
        let orgs: Vec<i64> = keys.iter().map(|(org, _)| org.0).collect();
        let texts: Vec<String> = keys.iter().map(|(_, key)| key.clone()).collect();
        let step = query(client, &sql.idempotency, vec![Box::new(orgs), Box::new(texts)]);
        fetches.add(step, move |known, rows| {
            known.idempotency.extend(keys.into_iter().map(|key| (key.clone(), None)));
            for row in rows {
                let (key, entry) = idempotency(&row)?;
                known.idempotency.insert(key, Some(entry));
            }
            Ok(())
        });
    }

    fn fetch_tasks<'n>(&self, needs: &'n Needs, fetches: &mut Fetches<'s, 'n>) {
        let ids = needs.tasks.iter().map(|(_, id)| *id).filter(|id| !self.known.tasks.contains_key(id));
        let ids: BTreeSet<TaskId> = ids.collect();
        if ids.is_empty() {
            return;
        }
        let uuids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let step = query(&self.session.client, &self.session.sql.tasks_open, vec![Box::new(uuids)]);
        fetches.hold(step, move |known, rows| {
            known.not_open.extend(ids);
            for row in rows {
                let task = rows::task(&row)?;
                known.not_open.remove(&task.id);
                known.remember(task, Place::Open, None);
            }
            Ok(())
        });
    }

    fn fetch_best<'n>(&self, needs: &'n Needs, fetches: &mut Fetches<'s, 'n>) {
        if needs.best.is_empty() {
            return;
        }
        let devices: BTreeSet<(DeviceKey, OrgId)> =
            needs.best.iter().map(|(org, device)| (*device, *org)).collect();
        let orgs: Vec<i64> = devices.iter().map(|(_, org)| org.0).collect();
        let keys: Vec<i64> = devices.iter().map(|(device, _)| device.0).collect();
        let values = vec![Box::new(orgs) as _, Box::new(keys) as _, Box::new(self.now.0) as _];
        let step = query(&self.session.client, &self.session.sql.tasks_best, values);
        fetches.hold(step, |known, rows| {
            for row in rows {
                let device = rows::get(&row, 21)?;
                let best = best(&row)?;
                if let Best::Task(_) = best {
                    known.remember(rows::task(&row)?, Place::Open, None);
                }
                known.best.insert(device, best);
            }
            Ok(())
        });
    }

    fn fetch_targets<'n>(&self, needs: &'n Needs, fetches: &mut Fetches<'s, 'n>) {
        let mut by_id: BTreeMap<(OrgId, i64), i64> = BTreeMap::new();
        let mut by_sn: BTreeMap<(OrgId, &str), i64> = BTreeMap::new();
        for (org, device, bound) in &needs.targets {
            if self.known.targets.contains_key(&(*org, Name::from(device))) {
                continue;
            }
            let counted_to = match device {
                DeviceRef::Id(id) => by_id.entry((*org, id.0)).or_default(),
                DeviceRef::Sn(sn) => by_sn.entry((*org, sn.as_str())).or_default(),
            };
            *counted_to = (*counted_to).max(i64::from(*bound));
        }
        let (client, sql) = (&self.session.client, &self.session.sql);
        if !by_id.is_empty() {
            let orgs: Vec<i64> = by_id.keys().map(|(org, _)| org.0).collect();
            let ids: Vec<i64> = by_id.keys().map(|(_, id)| *id).collect();
            let bounds: Vec<i64> = by_id.values().copied().collect();
            let values = vec![Box::new(orgs) as _, Box::new(ids) as _, Box::new(bounds) as _];
            fetches.add(query(client, &sql.targets_by_id, values), move |known, rows| {
                known.targets.extend(by_id.keys().map(|(org, id)| ((*org, Name::Id(*id)), None)));
                keep_targets(known, &rows, |target| {
                    let name = Name::Id(target.device_id.0);
                    let bound = by_id.get(&(target.org, target.device_id.0)).copied().unwrap_or(0);
                    (name, bound)
                })
            });
        }
        if !by_sn.is_empty() {
            let orgs: Vec<i64> = by_sn.keys().map(|(org, _)| org.0).collect();
            let sns: Vec<String> = by_sn.keys().map(|(_, sn)| (*sn).to_owned()).collect();
            let bounds: Vec<i64> = by_sn.values().copied().collect();
            let values = vec![Box::new(orgs) as _, Box::new(sns) as _, Box::new(bounds) as _];
            fetches.add(query(client, &sql.targets_by_sn, values), move |known, rows| {
                known
                    .targets
                    .extend(by_sn.keys().map(|(org, sn)| ((*org, Name::Sn((*sn).to_owned())), None)));
                keep_targets(known, &rows, |target| {
                    let name = Name::Sn(target.sn.as_str().to_owned());
                    let bound = by_sn.get(&(target.org, target.sn.as_str())).copied().unwrap_or(0);
                    (name, bound)
                })
            });
        }
    }

    /// Nothing is locked for it: whoever stores the same event at once finds that
    /// out when it writes, and looks again.
    fn fetch_events<'n>(&self, needs: &Needs, fetches: &mut Fetches<'s, 'n>) {
        let dev_timestamp = self.now;
        let of_now = needs.events_of_now.iter();
        let of_now = of_now
            .map(|(device, dev_event_id)| (*device, EventKey { dev_event_id: *dev_event_id, dev_timestamp }));
        let events: Vec<_> = needs.events.iter().copied().chain(of_now).collect();
        if events.is_empty() {
            return;
        }
        fetches.add(stored_among(self.session, events.iter()), move |known, rows| {
            known.events.extend(events.into_iter().map(|event| (event, false)));
            for row in rows {
                known.events.insert(stored_key(&row)?, true);
            }
            Ok(())
        });
    }

    fn fetch_numbers<'n>(&self, needs: &Needs, ahead: i64, fetches: &mut Fetches<'s, 'n>) {
        let missing = |wanted: u32, numbers: &VecDeque<i64>| {
            let missing = i64::from(wanted) - i64::try_from(numbers.len()).unwrap_or(i64::MAX);
            if missing > 0 { missing + ahead } else { 0 }
        };
        let tasks = missing(needs.tasks_new, &self.known.task_numbers);
        let results = missing(needs.results_new, &self.known.result_numbers);
        if tasks + results == 0 {
            return;
        }
        let values = vec![Box::new(tasks) as _, Box::new(results) as _];
        let step = query(&self.session.client, &self.session.sql.numbers, values);
        fetches.add(step, |known, rows| keep_numbers(known, &rows));
    }
}

/// Numbers in ascending order, as they are to be used.
pub(super) fn keep_numbers(known: &mut Known, rows: &[Row]) -> Read<()> {
    for row in rows {
        let numbers = if rows::get(row, 1)? { &mut known.task_numbers } else { &mut known.result_numbers };
        numbers.push_back(rows::get(row, 0)?);
    }
    known.task_numbers.make_contiguous().sort_unstable();
    known.result_numbers.make_contiguous().sort_unstable();
    Ok(())
}

fn keep_targets(known: &mut Known, rows: &[Row], name: impl Fn(&Target) -> (Name, i64)) -> Read<()> {
    let mut counts = HashMap::new();
    for row in rows {
        let target = rows::target(row)?;
        let (name, bound) = name(&target);
        counts.insert(target.device, OpenCount { counted: rows::get(row, 4)?, bound });
        known.targets.insert((target.org, name), Some(target));
    }
    known.open_counts.extend(counts);
    Ok(())
}

/// What a key was used for, from `org_id, key, request_digest, task_id, created_at`.
pub(super) fn idempotency(row: &dyn Columns) -> Read<((OrgId, String), Idempotency)> {
    Ok(((rows::get(row, 0)?, rows::get(row, 1)?), rows::idempotency_at(row, 2)?))
}
