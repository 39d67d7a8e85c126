//! What is to be written into the resources of a node: tasks of the methods `set` and `twin.set`, one after the other,
//! and of those that set the same resources the newest.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::audit::AuditEntry;
use crate::device::DeviceIdentity;
use crate::error::{Error, Result};
use crate::id::TaskId;
use crate::json;
use crate::limits::Limits;
use crate::operation::{Abort, Operation};
use crate::port::{Transaction, Turn};
use crate::quota::DayKept;
use crate::task::{Refused, Task, TaskDetail, Verdict, hand_out, held, refuse};
use crate::task::{parameters_gone, record_changes, results_of};
use crate::twin::{RESOURCES_MAX, SET_METHOD, validate};

/// The method that sets resources of a node: its parameters are an object of their values by name.
pub const NODE_SET_METHOD: &str = "set";
/// How many tasks that a node cannot do end in one step, or give way to newer ones.
/// Limit for each step: the rest follows at once.
const ENDED_MAX: usize = 16;
/// How many bytes of parameters of waiting tasks are looked at.
/// Limit for each node: a newer task behind them takes no older one's place.
const LOOKED_AT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Said of a method that no node has (RFC 9110 §15.6.2).
const NOT_IMPLEMENTED: i64 = 501;
/// Said of parameters that are not as they must be (RFC 9110 §15.5.1).
const BAD_REQUEST: i64 = 400;

/// What is to be written into a node's resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeWrite {
    /// The task; its result ends it.
    pub task: TaskId,
    /// The resources, in the order in which they were given, each with its value as JSON text.
    pub values: Vec<(String, Arc<str>)>,
}

/// As much of an open task of a node or a microcontroller as decides whether it is its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingTask {
    /// Its id.
    pub id: TaskId,
    /// The number of its creation.
    pub seq: i64,
    /// Its method.
    pub method: Option<String>,
    /// Its parameters as JSON text.
    pub payload: Option<Arc<str>>,
}

/// What a task that waits comes to.
type Values = Result<Vec<(String, Arc<str>)>, Refused>;

const fn bad(why: &'static str) -> Refused {
    Refused { status_code: BAD_REQUEST, why }
}

impl WaitingTask {
    /// What it sets.
    fn values(&self) -> Values {
        let method = self.method.as_deref();
        if !matches!(method, Some(NODE_SET_METHOD | SET_METHOD)) {
            let why = "a node takes the methods set and twin.set alone";
            return Err(Refused { status_code: NOT_IMPLEMENTED, why });
        }
        let payload = self.payload.as_deref().unwrap_or_default();
        let members = json::members(payload).ok_or(bad("the parameters must be an object"))?;
        let values = match method {
            Some(SET_METHOD) => vec![twin_value(&members).ok_or(bad("needs a resource and a value"))?],
            _ => last_of_each(members),
        };
        if values.is_empty() || values.len() > RESOURCES_MAX as usize {
            return Err(bad("must set 1 to 256 resources"));
        }
        for (resource, value) in &values {
            validate(resource, value).map_err(|error| match error {
                Error::Invalid { field: "resource", .. } => {
                    bad("the name of a resource must be 1 to 128 characters of A-Z a-z 0-9 _ . : / -")
                }
                _ => bad("a value must be at most 16384 bytes of JSON, nested at most 62 deep"),
            })?;
        }
        Ok(values)
    }

    /// The resources that it sets; none if a node cannot do it.
    fn resources(&self) -> HashSet<String> {
        self.values()
            .map_or_else(|_| HashSet::new(), |values| values.into_iter().map(|(name, _)| name).collect())
    }
}

/// The resource and the value out of the parameters of a `twin.set`.
fn twin_value(members: &[(String, &str)]) -> Option<(String, Arc<str>)> {
    let member = |wanted: &str| members.iter().rfind(|(name, _)| name == wanted).map(|(_, value)| *value);
    let resource = member("resource")?.strip_prefix('"')?.strip_suffix('"')?;
    Some((json::unescaped(resource)?, Arc::from(member("value")?)))
}

/// Of members with one name the last, where the first was.
fn last_of_each(members: Vec<(String, &str)>) -> Vec<(String, Arc<str>)> {
    let mut places = BTreeMap::new();
    let mut values: Vec<(String, Arc<str>)> = Vec::new();
    for (name, value) in members {
        let value = Arc::from(value);
        match places.get(&name) {
            Some(place) => values[*place] = (name, value),
            None => {
                places.insert(name.clone(), values.len());
                values.push((name, value));
            }
        }
    }
    values
}

/// A gateway asks for what is to be written into a node next.
pub struct WriteNext {
    /// The node's device.
    pub device: DeviceIdentity,
    /// Writes that are over, of which that is about to be stored.
    pub finishing: Vec<TaskId>,
    /// The limits in force.
    pub limits: Limits,
}

/// The answer to that.
#[derive(Clone, Debug, Default)]
pub struct NextWrite {
    /// What is to be written, if anything is.
    pub write: Option<NodeWrite>,
    /// The task of that.
    pub taken: Option<Arc<Task>>,
    /// Tasks that ended: a node cannot do them, or newer ones are in their places.
    pub ended: Vec<Arc<TaskDetail>>,
    /// How many bytes the body of each result has that was stored for the node.
    pub answered: Vec<usize>,
    /// What is no longer kept: the parameters of the latter.
    pub freed: Vec<DayKept>,
    /// Whether so many ended that it is to be asked again.
    pub is_more: bool,
}

impl Operation for WriteNext {
    type Output = NextWrite;

    fn turn(&self) -> Turn {
        Turn::Org(self.device.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<NextWrite, Abort> {
        let next = self.next(tx)?;
        if !next.freed.is_empty() {
            let of_devices: Vec<_> = next.freed.iter().map(|freed| (self.device.device, *freed)).collect();
            let of_orgs: Vec<_> = next.freed.iter().map(|freed| (self.device.org, *freed)).collect();
            tx.kept_add(&of_devices, &of_orgs)?;
        }
        Ok(next)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

impl WriteNext {
    fn next(&self, tx: &mut dyn Transaction) -> Result<NextWrite, Abort> {
        let (org, device) = (self.device.org, self.device.device);
        let limit = self.limits.live_tasks_per_device_max;
        let mut waiting = tx.tasks_waiting(org, device, limit, LOOKED_AT_BYTES_MAX)?;
        waiting.retain(|task| !self.finishing.contains(&task.id));
        // Those of one kind with what they set, once it is asked for.
        let mut resources: Vec<Option<HashSet<String>>> = vec![None; waiting.len()];
        let mut next = NextWrite::default();
        let mut gone = HashSet::new();
        for (place, candidate) in waiting.iter().enumerate() {
            if gone.contains(&candidate.id) {
                continue;
            }
            let values = match candidate.values() {
                Ok(values) => values,
                Err(refused) => {
                    if let Some(task) = held(tx, org, candidate.id)?
                        && let Some((ended, bytes)) = refuse(tx, task, refused, &self.limits)?
                    {
                        next.ended.push(ended);
                        next.answered.push(bytes);
                    }
                    if next.ended.len() >= ENDED_MAX {
                        next.is_more = true;
                        return Ok(next);
                    }
                    continue;
                }
            };
            let sets: HashSet<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
            let mut others = waiting.iter().enumerate().filter(|(at, other)| {
                *at != place && other.method == candidate.method && !gone.contains(&other.id)
            });
            // Its own place, if a newer one sets all that it does.
            let mut is_superseded = false;
            let mut older = Vec::new();
            for (at, other) in others.by_ref() {
                let theirs = resources[at].get_or_insert_with(|| other.resources());
                if other.seq > candidate.seq {
                    is_superseded |= sets.iter().all(|name| theirs.contains(*name));
                } else if !theirs.is_empty() && theirs.iter().all(|name| sets.contains(name.as_str())) {
                    older.push(other.id);
                }
            }
            if is_superseded && let Some((ended, freed)) = supersede(tx, org, candidate.id)? {
                next.ended.push(ended);
                next.freed.push(freed);
                if next.ended.len() >= ENDED_MAX {
                    next.is_more = true;
                    return Ok(next);
                }
                continue;
            }
            for id in older {
                gone.insert(id);
                if let Some((ended, freed)) = supersede(tx, org, id)? {
                    next.ended.push(ended);
                    next.freed.push(freed);
                }
                if next.ended.len() >= ENDED_MAX {
                    next.is_more = true;
                    return Ok(next);
                }
            }
            // One that was taken before was left: a gateway asks when no write of the node is under way. Nothing else
            // may come before it, or an older value would take the place of a newer one.
            let task = held(tx, org, candidate.id)?;
            if let Some(task) = task.map(|task| hand_out(tx, task, &self.limits)).transpose()?.flatten() {
                next.write = Some(NodeWrite { task: candidate.id, values });
                next.taken = Some(Arc::new(task));
                return Ok(next);
            }
        }
        Ok(next)
    }
}

/// A newer task has taken the place of one that the node has not taken.
fn supersede(
    tx: &mut dyn Transaction,
    org: crate::id::OrgId,
    id: TaskId,
) -> Result<Option<(Arc<TaskDetail>, DayKept)>, Abort> {
    let now = tx.now();
    let Some(mut task) = held(tx, org, id)? else { return Ok(None) };
    let (told, freed) = (task.timeline.len(), parameters_gone(&task));
    if task.supersede(now) == Verdict::Unchanged {
        return Ok(None);
    }
    tx.task_update(&task)?;
    record_changes(tx, &task, told)?;
    let results = results_of(tx, &task)?;
    Ok(Some((Arc::new(TaskDetail::of(task, results)), freed)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use uuid::Uuid;

    use super::*;

    fn values(method: Option<&str>, payload: Option<&str>) -> Result<String, i64> {
        let (method, payload) = (method.map(ToOwned::to_owned), payload.map(Arc::from));
        let task = WaitingTask { id: TaskId(Uuid::nil()), seq: 1, method, payload };
        let values = task.values().map_err(|refused| refused.status_code)?;
        Ok(values.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(";"))
    }

    #[test]
    fn what_a_task_sets_is_read_as_it_was_written() {
        let set = |payload| values(Some("set"), Some(payload));
        assert_eq!(set(r#"{"led":"1","a/b":{"c":[1, 2]}}"#).unwrap(), r#"led="1";a/b={"c":[1, 2]}"#);
        assert_eq!(set(r#"{"a":1,"b":2,"a":3}"#).unwrap(), "a=3;b=2");
        let twin = |payload| values(Some("twin.set"), Some(payload));
        assert_eq!(twin(r#"{"resource":"a\/b","value":1.50,"version":4}"#).unwrap(), "a/b=1.50");
        for payload in [r#"{"value":1}"#, r#"{"resource":"a"}"#, r#"{"resource":1,"value":1}"#] {
            assert_eq!(twin(payload), Err(400), "{payload}");
        }
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(16 * 1024));
        let many = (0..257).map(|place| format!(r#""r{place}":1"#)).collect::<Vec<_>>().join(",");
        for payload in ["{}", "[]", "5", r#"{"a b":1}"#, &long, &format!("{{{many}}}")] {
            assert_eq!(set(payload), Err(400), "{payload:.40}");
        }
        assert_eq!(values(Some("set"), None), Err(400));
        assert_eq!(values(Some("blink"), Some("{}")), Err(501));
        assert_eq!(values(None, Some("{}")), Err(501));
    }
}
