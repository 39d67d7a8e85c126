//! Steps on tasks, results and idempotency keys.

use std::time::Duration;

use covey_core::error::StorageFault;
use covey_core::id::{DeviceKey, OrgId, ResultId, TaskId, UnixMs};
use covey_core::node::WaitingTask;
use covey_core::port::TxResult;
use covey_core::task::{Idempotency, NewResult, Task, TaskResult, TaskResults, TaskSteps};
use tokio_postgres::Row;

use crate::postgres::fault::Failure;
use crate::postgres::locks::of_idempotency_key;
use crate::postgres::pipeline::values;
use crate::postgres::task::reads::{newest_results, results_from};
use crate::postgres::write::prefetch::{idempotency, keep_numbers};
use crate::postgres::write::transaction::PostgresTransaction;
use crate::postgres::write::transaction_cache::{Best, CachedTask, OpenCount, Place};
use crate::rows::{self, Read};

/// How often tasks that others hold are looked at again.
const HELD_LOOKS: u32 = 4;

/// The pause before each of these looks: about what a commit takes.
const HELD_PAUSE: Duration = Duration::from_millis(3);

impl TaskSteps for PostgresTransaction<'_> {
    fn task(&mut self, org: OrgId, id: TaskId) -> TxResult<Option<Task>> {
        if !self.cache.tasks.contains_key(&id) {
            self.look_for_task(id)?;
        }
        let cached = self.cache.tasks.get(&id);
        Ok(cached.map(|cached| &cached.task).filter(|task| task.org == org).cloned())
    }

    /// A change of a task never makes one eligible at the same instant, so the
    /// best one that was fetched stays the best until it is taken; only tasks
    /// that this transaction made can come before it.
    fn task_best(&mut self, org: OrgId, device: DeviceKey) -> TxResult<Option<Task>> {
        let fetched = match self.cache.best.get(&device) {
            Some(Best::Task(id)) => self.eligible(*id, org),
            Some(Best::None) => None,
            Some(Best::Held) | None => return self.look_for_best(org, device),
        };
        if matches!(self.cache.best.get(&device), Some(Best::Task(_))) && fetched.is_none() {
            return self.look_for_best(org, device);
        }
        let made = self.cache.made.get(&device).into_iter().flatten();
        let made = made.filter_map(|id| self.eligible(*id, org));
        Ok(made.chain(fetched).min_by_key(|task| task.rank()).cloned())
    }

    fn tasks_overdue_of_every_org(&mut self, limit: u32) -> TxResult<Vec<Task>> {
        let values = values![self.now.0, i64::from(limit)];
        let rows = self.ask(self.query(|sql| &sql.task.tasks_overdue, values))?;
        self.hold_tasks(&rows)
    }

    fn tasks_live_reach(&mut self, _org: OrgId, device: DeviceKey, count: u32) -> TxResult<bool> {
        let count = i64::from(count);
        if let Some(cached) = self.cache.open_counts.get(&device) {
            let change = self.cache.open_changes.get(&device).copied().unwrap_or(0);
            if cached.counted + change < count && cached.counted < cached.bound {
                return Ok(false);
            }
            // A caller is not refused for what is only remembered.
            if cached.counted + change >= count && cached.bound != OpenCount::REMEMBERED {
                return Ok(true);
            }
        }
        let counted: i64 =
            self.ask_only(|sql| &sql.task.open_count, values![device.0, count], rows::first)?;
        Ok(counted >= count)
    }

    fn tasks_open(&mut self, org: OrgId, device: DeviceKey, limit: u32) -> TxResult<Vec<Task>> {
        let values = values![org.0, device.0, self.now.0, i64::from(limit)];
        let rows = self.ask(self.query(|sql| &sql.task.tasks_open_of, values))?;
        self.hold_tasks(&rows)
    }

    fn tasks_waiting(
        &mut self,
        org: OrgId,
        device: DeviceKey,
        limit: u32,
        bytes_max: usize,
    ) -> TxResult<Vec<WaitingTask>> {
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        let values = values![org.0, device.0, self.now.0, i64::from(limit), bytes_max];
        let rows = self.ask(self.query(|sql| &sql.task.tasks_waiting, values))?;
        self.read(rows::each(&rows, rows::waiting_task))
    }

    fn tasks_hold(&mut self, org: OrgId, ids: &[TaskId]) -> TxResult<Vec<Task>> {
        let uuids: Vec<_> = ids.iter().map(|id| id.0).collect();
        let rows = self.ask(self.query(|sql| &sql.task.tasks_hold, values![uuids]))?;
        let mut tasks = self.hold_tasks(&rows)?;
        tasks.retain(|task| task.org == org && !task.status.is_final());
        tasks.sort_by_key(|task| ids.iter().position(|id| *id == task.id));
        Ok(tasks)
    }

    fn task_insert(&mut self, task: &mut Task) -> TxResult<()> {
        task.seq = self.number(|this| this.cache.task_numbers.pop_front(), (1, 0))?;
        self.batch.task(task.id);
        self.batch.count(task.org, task.status, 1);
        if !task.status.is_final() {
            *self.cache.open_changes.entry(task.device).or_default() += 1;
        }
        self.cache.made.entry(task.device).or_default().push(task.id);
        let cached = CachedTask {
            task: task.clone(),
            place: Place::Nowhere,
            written_by: None,
            is_written: true,
            has_older_results: false,
            new_results: Vec::new(),
        };
        self.cache.tasks.insert(task.id, cached);
        Ok(())
    }

    fn task_update(&mut self, task: &Task) -> TxResult<()> {
        let Some(cached) = self.cache.tasks.get_mut(&task.id) else {
            tracing::error!(task = %task.id, "a task was changed that this transaction has not read");
            return Err(self.fail(Failure::OfJob(StorageFault::Io)));
        };
        let before = cached.task.status;
        cached.task = task.clone();
        cached.is_written = true;
        self.batch.task(task.id);
        if before != task.status {
            self.batch.count(task.org, before, -1);
            self.batch.count(task.org, task.status, 1);
        }
        if !before.is_final() && task.status.is_final() {
            *self.cache.open_changes.entry(task.device).or_default() -= 1;
        }
        Ok(())
    }

    fn result_equal(&mut self, task: &Task, result: &NewResult) -> TxResult<Option<ResultId>> {
        let cached = self.cache.tasks.get(&task.id);
        if let Some(cached) = cached.filter(|cached| !cached.has_older_results) {
            return Ok(cached.new_results.iter().find(|one| one.result == *result).map(|one| one.id));
        }
        let values = values![
            task.id.0,
            result.ext_id,
            result.status_code,
            result.body_hash(),
            rows::body_kind(&result.body),
            result.body.text().as_bytes().to_vec()
        ];
        self.ask_first(|sql| &sql.task.result_equal, values, |row| rows::get(row, 0).map(ResultId))
    }

    fn result_insert(&mut self, task: &Task, result: &NewResult) -> TxResult<ResultId> {
        let id = ResultId(self.number(|this| this.cache.result_numbers.pop_front(), (0, 1))?);
        let stored = TaskResult { id, result: result.clone(), received_at: self.now };
        if let Some(cached) = self.cache.tasks.get_mut(&task.id) {
            cached.new_results.push(stored.clone());
        }
        self.batch.result(task, stored);
        Ok(id)
    }

    fn results(&mut self, task: &Task) -> TxResult<TaskResults> {
        let cached = self.cache.tasks.get(&task.id);
        if let Some(cached) = cached.filter(|cached| !cached.has_older_results) {
            let mut results = TaskResults::default();
            for result in cached.new_results.iter().rev() {
                if !results.add(result.clone()) {
                    break;
                }
            }
            return Ok(results);
        }
        let rows = self.ask(self.query(|sql| &sql.task.results, newest_results(task.id.0, None)))?;
        self.read(results_from(rows.iter()))
    }

    fn idempotency(&mut self, org: OrgId, key: &str) -> TxResult<Option<Idempotency>> {
        let wanted = (org, key.to_owned());
        if let Some(cached) = self.cache.idempotency.get(&wanted) {
            return Ok(*cached);
        }
        let number = of_idempotency_key(org.0, key);
        let steps = vec![
            self.query(|sql| &sql.task.idempotency_lock, values![vec![number]]),
            self.query(|sql| &sql.task.idempotency, values![vec![org.0], vec![key.to_owned()]]),
        ];
        let rows = self.ask_last(steps)?;
        let found = self.first(&rows, idempotency)?.map(|(_, entry)| entry);
        self.cache.idempotency.insert(wanted, found);
        Ok(found)
    }

    fn idempotency_put(&mut self, org: OrgId, key: &str, entry: &Idempotency) -> TxResult<()> {
        self.cache.idempotency.insert((org, key.to_owned()), Some(*entry));
        self.batch.idempotency.insert((org, key.to_owned()), *entry);
        Ok(())
    }

    fn idempotency_prune(&mut self, before: UnixMs, limit: u32) -> TxResult<usize> {
        let values = values![before.0, i64::from(limit)];
        let count = self.write(|sql| &sql.task.idempotency_prune, values)?;
        if count > 0 {
            // Whatever was forgotten is to be asked for again.
            self.cache.idempotency.clear();
        }
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }
}

impl PostgresTransaction<'_> {
    /// Looks among open tasks and then among final ones, each with a look of
    /// its own: a task that moves in between is seen by the second.
    fn look_for_task(&mut self, id: TaskId) -> TxResult<()> {
        let mut steps = Vec::new();
        if !self.cache.not_open.contains(&id) {
            steps.push(self.query(|sql| &sql.task.tasks_open, values![vec![id.0]]));
        }
        steps.push(self.query(|sql| &sql.task.task_done, values![id.0]));
        let count = steps.len();
        for (step, reply) in self.trip(steps)?.into_iter().enumerate() {
            let place = if step + 1 == count { Place::Done } else { Place::Open };
            self.remember_task(&reply.rows(), place)?;
        }
        Ok(())
    }

    fn remember_task(&mut self, rows: &[Row], place: Place) -> TxResult<Option<TaskId>> {
        let Some(task) = self.first(rows, rows::task)? else { return Ok(None) };
        Ok(Some(self.cache.remember(task, place, None).id))
    }

    /// Open tasks that this transaction holds now, as they are after the jobs so far.
    fn hold_tasks(&mut self, rows: &[Row]) -> TxResult<Vec<Task>> {
        let mut tasks = Vec::with_capacity(rows.len());
        for row in rows {
            let task = self.read(rows::task(row))?;
            tasks.push(self.cache.remember(task, Place::Open, None).clone());
        }
        Ok(tasks)
    }

    fn eligible(&self, id: TaskId, org: OrgId) -> Option<&Task> {
        let task = &self.cache.tasks.get(&id)?.task;
        (task.org == org && task.is_eligible(self.now)).then_some(task)
    }

    /// Looks until there is a task that nobody holds, or none at all. It never
    /// waits for a row while it holds others: two groups that did so would wait
    /// for each other. One that finds only held ones is run again.
    fn look_for_best(&mut self, org: OrgId, device: DeviceKey) -> TxResult<Option<Task>> {
        for attempt in 0..HELD_LOOKS {
            if attempt > 0 {
                self.pause(HELD_PAUSE);
            }
            let values = values![vec![org.0], vec![device.0], self.now.0];
            let rows = self.ask(self.query(|sql| &sql.task.tasks_best, values))?;
            let mut best = Best::None;
            for row in &rows {
                best = self.read(self::best(row))?;
                if let Best::Task(_) = best {
                    let task = self.read(rows::task(row))?;
                    self.cache.remember(task, Place::Open, None);
                }
            }
            match best {
                Best::Held => continue,
                Best::None | Best::Task(_) => {}
            }
            self.cache.best.insert(device, best);
            let Best::Task(id) = best else { return Ok(None) };
            return Ok(self.cache.tasks.get(&id).map(|cached| cached.task.clone()));
        }
        Err(self.fail(Failure::Again))
    }

    /// A number that was fetched, or else one that is fetched now.
    fn number(&mut self, next: impl Fn(&mut Self) -> Option<i64>, wanted: (i64, i64)) -> TxResult<i64> {
        if let Some(number) = next(self) {
            return Ok(number);
        }
        let rows = self.ask(self.query(|sql| &sql.task.numbers, values![wanted.0, wanted.1]))?;
        let kept = keep_numbers(&mut self.cache, &rows);
        self.read(kept)?;
        next(self).ok_or_else(|| self.fail(Failure::OfJob(StorageFault::Io)))
    }
}

/// What a look for the best task of a device has found, from the columns of
/// `tasks_best`.
pub(crate) fn best(row: &Row) -> Read<Best> {
    Ok(if rows::get::<Option<i64>>(row, 0)?.is_some() {
        Best::Task(rows::task(row)?.id)
    } else if rows::get(row, rows::TASK_COLUMNS + 1)? {
        Best::Held
    } else {
        Best::None
    })
}
