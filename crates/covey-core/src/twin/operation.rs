//! Operations on twins.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::access::{Caller, Matter, Rights};
use crate::audit::{AuditAction, AuditEntry};
use crate::device::{DeviceIdentity, Tag, object_of};
use crate::engine::after_commit::AfterCommit;
use crate::error::{Error, Result};
use crate::event::Reported;
use crate::id::{DeviceId, DeviceKey, OrgId, TaskId};
use crate::limits::Limits;
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};
use crate::quota::{DayKept, ROW_BYTES};
use crate::record::{NewRecord, TwinChange, TwinSide};
use crate::task::{DeviceRef, Task, TaskDetail, TaskSpec, Verdict};
use crate::task::{parameters_gone, record_changes, results_of};
use crate::twin::{
    DesiredValue, RESOURCES_MAX, ReportedValue, SET_METHOD, SET_METHOD_CODE, Twin, TwinPatch, TwinResource,
    TwinVersions,
};

/// Up to how many resources are read each by its name. Beyond that all of the twin are, at once.
/// Limit for each report: all resources of the twin are read.
const READ_ALONE_MAX: usize = 16;

/// An application changes a twin.
pub struct TwinChangeAll {
    /// Who asks.
    pub caller: Caller,
    /// The device.
    pub device_id: DeviceId,
    /// What changes, validated.
    pub patch: TwinPatch,
    /// Ids for the tasks that tell the device, one for each desired value.
    pub ids: Vec<TaskId>,
    /// The limits in force.
    pub limits: Limits,
    /// Who knows how much the device keeps.
    pub(crate) after_commit: Arc<AfterCommit>,
}

/// What became of a twin.
#[derive(Clone, Debug)]
pub struct ChangedTwin {
    /// The twin after the change.
    pub twin: Twin,
    /// The tasks that were made to tell the device.
    pub made: Vec<Arc<Task>>,
    /// The tasks in whose place they are.
    pub superseded: Vec<Arc<TaskDetail>>,
    /// What is no longer kept: the parameters of these.
    pub freed: Vec<DayKept>,
}

impl Operation for TwinChangeAll {
    type Output = ChangedTwin;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn bytes(&self) -> usize {
        self.patch.bytes()
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<ChangedTwin, Abort> {
        let device = tx.device(self.caller.org, self.device_id)?.ok_or(Error::not_found("device"))?;
        self.demand(&device.tags)?;
        let may_read = self.may_read(&device.tags);
        let device = device.identity;
        self.after_commit.demand_quota(device.org, Some(device.device))?;
        let mut versions = tx.twin_versions(device.device)?;
        if !self.patch.holds(versions) {
            return Err(Error::Precondition { problem: "the twin has changed; read it again" }.into());
        }
        let wanted = self.patch.desired.iter().filter(|(_, value)| value.is_some()).count();
        let counted_to =
            self.limits.live_tasks_per_device_max.saturating_sub(u32::try_from(wanted).unwrap_or(0));
        if wanted > 0 && tx.tasks_live_reach(self.caller.org, device.device, counted_to.saturating_add(1))? {
            return Err(Error::Exhausted { limit: "the device has too many open tasks" }.into());
        }
        let names =
            self.patch.reported.iter().chain(&self.patch.desired).filter(|(_, value)| value.is_some());
        demand_room(tx, &device, names.map(|(name, _)| name.as_str()))?;
        if !self.patch.reported.is_empty() {
            versions.reported += 1;
            for (name, value) in &self.patch.reported {
                let resource = resource(tx, &device, name)?;
                report(tx, &device, resource, value.clone(), versions)?;
            }
        }
        let mut changed = Changes::default();
        if !self.patch.desired.is_empty() {
            versions.desired += 1;
            for ((name, value), id) in self.patch.desired.iter().zip(&self.ids) {
                self.desire(tx, &device, (name, value.clone()), *id, versions, &mut changed)?;
            }
        }
        tx.twin_versions_put(device.device, versions)?;
        let mut resources = tx.twin_resources(device.device)?;
        if !may_read {
            let (reported, desired) = (&self.patch.reported, &self.patch.desired);
            resources.retain(|one| reported.iter().chain(desired).any(|(name, _)| *name == one.name));
        }
        let twin = Twin { device, versions, resources };
        let Changes { made, superseded, freed } = changed;
        if !freed.is_empty() {
            let of_devices: Vec<_> = freed.iter().map(|freed| (twin.device.device, *freed)).collect();
            let of_orgs: Vec<_> = freed.iter().map(|freed| (twin.device.org, *freed)).collect();
            tx.kept_add(&of_devices, &of_orgs)?;
        }
        Ok(ChangedTwin { twin, made, superseded, freed })
    }

    fn entries(&self, changed: &ChangedTwin) -> Vec<AuditEntry> {
        let device = &changed.twin.device;
        let entry = AuditEntry::of(&self.caller, AuditAction::TwinChange, object_of(device)).device(device);
        let side = |values: &[(String, Option<Arc<str>>)]| {
            let one = |(name, value): &(String, Option<Arc<str>>)| {
                format!("{name}={}", value.as_deref().unwrap_or("null"))
            };
            values.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        vec![
            entry
                .detail("desired", &side(&self.patch.desired))
                .detail("reported", &side(&self.patch.reported)),
        ]
    }
}

#[derive(Default)]
struct Changes {
    made: Vec<Arc<Task>>,
    superseded: Vec<Arc<TaskDetail>>,
    freed: Vec<DayKept>,
}

impl TwinChangeAll {
    /// Whether the answer may show more than what is changed: not to who has grants, and none to read the device.
    fn may_read(&self, tags: &[Tag]) -> bool {
        let granted = self.caller.demand(Rights::DEVICES_READ, tags, Matter::Device, "device");
        self.caller.grants.list().is_empty() || granted.is_ok()
    }

    /// Demands the rights that the patch needs on a device with these tags.
    fn demand(&self, tags: &[Tag]) -> Result<()> {
        let (caller, patch) = (&self.caller, &self.patch);
        if !patch.reported.is_empty() || patch.desired.is_empty() {
            caller.demand(Rights::DEVICES_WRITE, tags, Matter::Device, "device")?;
        }
        if !patch.desired.is_empty() {
            let code = u16::try_from(SET_METHOD_CODE).unwrap_or(u16::MAX);
            let matter = Matter::Task { code, name: Some(SET_METHOD) };
            caller.demand(Rights::TASKS_WRITE, tags, matter, "device")?;
        }
        Ok(())
    }

    /// A value is wanted, or no longer: the task that was to tell the device of
    /// an older one, and was not taken yet, is not needed any more.
    fn desire(
        &self,
        tx: &mut dyn Transaction,
        device: &DeviceIdentity,
        (name, value): (&str, Option<Arc<str>>),
        id: TaskId,
        versions: TwinVersions,
        changes: &mut Changes,
    ) -> Result<(), Abort> {
        let now = tx.now();
        let mut resource = resource(tx, device, name)?;
        if let Some(older) = &resource.desired
            && let Some(mut task) = tx.task(self.caller.org, older.task)?
        {
            let (told, freed) = (task.timeline.len(), parameters_gone(&task));
            if task.supersede(now) == Verdict::Changed {
                changes.freed.push(freed);
                tx.task_update(&task)?;
                record_changes(tx, &task, told)?;
                let results = results_of(tx, &task)?;
                changes.superseded.push(Arc::new(TaskDetail::of(task, results)));
            }
        }
        let version = versions.desired;
        if let Some(value) = &value {
            let mut task = self.task(device, name, value, version, id).into_task(
                id,
                crate::task::Target {
                    org: device.org,
                    device: device.device,
                    device_id: device.device_id,
                    sn: device.sn.clone(),
                },
                &self.caller,
                &self.limits,
                now,
            );
            tx.task_insert(&mut task)?;
            record_changes(tx, &task, 0)?;
            changes.made.push(Arc::new(task));
        }
        resource.desired = value.clone().map(|value| DesiredValue { value, version, at: now, task: id });
        tx.twin_resource_put(device.device, &resource)?;
        let resource = name.to_owned();
        let change = TwinChange { side: TwinSide::Desired, resource, value, version };
        Ok(tx.record(device, &NewRecord::Twin(change))?)
    }

    /// The task by which a device hears of a desired value.
    fn task(&self, device: &DeviceIdentity, name: &str, value: &str, version: i64, id: TaskId) -> TaskSpec {
        TaskSpec {
            device: DeviceRef::Id(device.device_id),
            ext_task_id: format!("twin {name} {id}"),
            method_code: SET_METHOD_CODE,
            method: Some(SET_METHOD.to_owned()),
            priority: self.patch.priority,
            ttl_minutes: self.patch.ttl_minutes,
            // The name has no character that JSON would write in another way.
            payload: Some(Arc::from(format!(
                r#"{{"resource":"{name}","value":{value},"version":{version}}}"#
            ))),
        }
    }
}

/// A device reports values of its resources, without an event.
pub struct TwinReport {
    /// The device.
    pub device: DeviceIdentity,
    /// The values, validated.
    pub values: Vec<Reported>,
}

impl Operation for TwinReport {
    type Output = ();

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.device.org)
    }

    fn adds_to(&self) -> Option<(OrgId, Option<DeviceKey>)> {
        Some((self.device.org, Some(self.device.device)))
    }

    fn bytes(&self) -> usize {
        self.values.iter().map(Reported::bytes).sum()
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        let Self { device, values } = self;
        let known = demand_room(tx, device, values.iter().map(|one| one.resource.as_str()))?;
        report_all(tx, device, values, known)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// What one device reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    /// The device.
    pub device: DeviceIdentity,
    /// Its values.
    pub values: Vec<Reported>,
}

impl DeviceReport {
    /// How much memory the values take, in bytes; about.
    pub(crate) fn bytes(&self) -> usize {
        self.values.iter().map(Reported::bytes).sum()
    }
}

/// Several devices of one organisation report values of their resources, without an event. What one of them may not
/// report keeps back nothing of the others.
pub struct TwinReportAll {
    /// The organisation.
    pub org: OrgId,
    /// What they report, validated.
    pub reports: Arc<[DeviceReport]>,
    /// Which of these it is about.
    pub range: Range<usize>,
}

impl TwinReportAll {
    fn reports(&self) -> &[DeviceReport] {
        self.reports.get(self.range.clone()).unwrap_or_default()
    }
}

impl Operation for TwinReportAll {
    /// What became of each report, in their order.
    type Output = Vec<Result<()>>;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.org)
    }

    fn bytes(&self) -> usize {
        // Each costs as much of a turn as if it came alone.
        self.reports().iter().map(|report| report.bytes() + ROW_BYTES * report.values.len()).sum()
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Vec<Result<()>>, Abort> {
        let mut done = Vec::with_capacity(self.range.len());
        for DeviceReport { device, values } in self.reports() {
            let known = match demand_room(tx, device, values.iter().map(|one| one.resource.as_str())) {
                Ok(known) => known,
                // Of this one nothing was written.
                Err(Abort::Refused(error)) => {
                    done.push(Err(error));
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            report_all(tx, device, values, known)?;
            done.push(Ok(()));
        }
        Ok(done)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// A device reports values of its resources; those that [`demand_room`] has found are not read
/// again.
pub(crate) fn report_all(
    tx: &mut dyn Transaction,
    device: &DeviceIdentity,
    reported: &[Reported],
    known: Vec<TwinResource>,
) -> Result<(), Abort> {
    if reported.is_empty() {
        return Ok(());
    }
    let mut known: HashMap<String, TwinResource> =
        known.into_iter().map(|resource| (resource.name.clone(), resource)).collect();
    let versions = tx.twin_reported(device.device)?;
    for Reported { resource: name, value } in reported {
        // One that comes twice in an event is read the second time.
        let resource = known.remove(name).map_or_else(|| resource(tx, device, name), Ok)?;
        report(tx, device, resource, Some(value.clone()), versions)?;
    }
    Ok(())
}

/// Refuses names that are new if the twin has no room for them; answers the resources that it has, at least those of
/// these names.
pub(crate) fn demand_room<'a>(
    tx: &mut dyn Transaction,
    device: &DeviceIdentity,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<TwinResource>, Abort> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    let known = if names.len() <= READ_ALONE_MAX {
        let mut known = Vec::with_capacity(names.len());
        for name in &names {
            known.extend(tx.twin_resource(device.device, name)?);
        }
        known
    } else {
        tx.twin_resources(device.device)?
    };
    let known_names: HashSet<&str> = known.iter().map(|resource| resource.name.as_str()).collect();
    let new = names.iter().filter(|name| !known_names.contains(*name)).count();
    if new == 0 || tx.twin_resource_count(device.device)? as usize + new <= RESOURCES_MAX as usize {
        return Ok(known);
    }
    Err(Error::invalid("resource", "a twin may have at most 256 resources").into())
}

/// A value was reported, or removed on behalf of the device.
fn report(
    tx: &mut dyn Transaction,
    device: &DeviceIdentity,
    mut resource: TwinResource,
    value: Option<Arc<str>>,
    versions: TwinVersions,
) -> Result<(), Abort> {
    let version = versions.reported;
    let reported = ReportedValue { value: value.clone(), version, at: tx.now() };
    tx.twin_history_insert(device, &resource.name, &reported)?;
    resource.reported = value.is_some().then_some(reported);
    tx.twin_resource_put(device.device, &resource)?;
    let change = TwinChange { side: TwinSide::Reported, resource: resource.name, value, version };
    Ok(tx.record(device, &NewRecord::Twin(change))?)
}

fn resource(tx: &mut dyn Transaction, device: &DeviceIdentity, name: &str) -> Result<TwinResource, Abort> {
    let known = tx.twin_resource(device.device, name)?;
    Ok(known.unwrap_or_else(|| TwinResource { name: name.to_owned(), reported: None, desired: None }))
}
