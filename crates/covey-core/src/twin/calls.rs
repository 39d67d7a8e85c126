//! What can be asked of twins.

use std::ops::Range;
use std::sync::Arc;

use crate::access::{Matter, Rights};
use crate::budget::Weight;
use crate::device::TagsOf;
use crate::engine::after_commit::AfterCommit;
use crate::engine::{ForCaller, ForDevice, ForServer};
use crate::error::{Error, Result, StorageFault};
use crate::event::Reported;
use crate::id::{DeviceId, OrgId};
use crate::retention::RetentionClass;
use crate::twin::{
    ChangedTwin, DeviceReport, HISTORY_MAX, RESOURCES_MAX, ReportedValue, Twin, TwinChangeAll, TwinPatch,
    TwinReport, TwinReportAll, validate,
};

impl ForCaller<'_> {
    /// A device's twin.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn twin_get(self, device: DeviceId) -> Result<Twin> {
        self.caller.require_some(Rights::DEVICES_READ)?;
        self.demand(Rights::DEVICES_READ, TagsOf::Id(device), Matter::Device, "device").await?;
        self.engine.parts.store.twin_get(self.caller, device).await?.ok_or(Error::not_found("device"))
    }

    /// What a device reported of a resource, newest first.
    ///
    /// # Errors
    /// A missing right, a limit out of range, [`Error::NotFound`], or the store's.
    pub async fn twin_history(
        self,
        device: DeviceId,
        resource: String,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ReportedValue>> {
        self.caller.require_some(Rights::DEVICES_READ)?;
        validate(&resource, "")?;
        if !(1..=HISTORY_MAX).contains(&limit) {
            return Err(Error::invalid("limit", "must be 1 to 1000"));
        }
        self.demand(Rights::DEVICES_READ, TagsOf::Id(device), Matter::Device, "device").await?;
        let history =
            self.engine.parts.store.twin_history(self.caller, device, resource, before, limit).await?;
        history.ok_or(Error::not_found("device"))
    }

    /// Changes a twin. Values that are wanted become tasks for the device, in
    /// place of those that it has not taken yet.
    ///
    /// # Errors
    /// A missing right (`devices:write` for what is reported, `tasks:write` for
    /// what is wanted), a field out of range, [`Error::NotFound`],
    /// [`Error::Precondition`], a limit, a link that is blocked, or the store's.
    pub async fn twin_patch(self, device_id: DeviceId, patch: TwinPatch) -> Result<Twin> {
        if !patch.reported.is_empty() || patch.desired.is_empty() {
            self.caller.require_some(Rights::DEVICES_WRITE)?;
        }
        if !patch.desired.is_empty() {
            self.caller.require_some(Rights::TASKS_WRITE)?;
        }
        patch.validate()?;
        self.charge(patch.weight())?;
        if !patch.desired.is_empty() && self.engine.parts.links.are_blocked() {
            return Err(Error::Blocked);
        }
        let (bytes, reported) = (patch.reported_bytes(), patch.reported.len());
        let ids = patch.desired.iter().map(|_| self.engine.parts.ids.task_id()).collect();
        let operation = TwinChangeAll {
            caller: self.caller.clone(),
            device_id,
            patch,
            ids,
            limits: self.engine.limits_for(self.caller.org),
            after_commit: Arc::clone(&self.engine.after_commit),
        };
        let changed = self.engine.execute_then(operation, move |after, changed: &ChangedTwin| {
            after.recorded();
            let device = &changed.twin.device;
            after.kept((device.org, device.device), RetentionClass::TwinHistory, bytes, reported);
            changed.freed.iter().for_each(|freed| after.freed((device.org, device.device), freed));
            changed.made.iter().for_each(|task| after.kept_task(task));
            changed.superseded.iter().for_each(|detail| after.finished(detail));
            changed.made.iter().for_each(|task| after.opened(task));
        });
        Ok(changed.await?.twin)
    }
}

impl ForDevice<'_> {
    /// Weighs values that the device reports of its resources, and stores them. They have no event: they are told as
    /// changes of its twin.
    ///
    /// # Errors
    /// A name or a value out of range, none or more than 256 of them, a twin without room, [`Error::OverBudget`],
    /// [`Error::OverQuota`], or the store's.
    pub async fn twin_report(self, values: Vec<Reported>) -> Result<()> {
        self.admit_report(&values)?;
        let (count, bytes) = (values.len(), values.iter().map(|one| one.value.len()).sum());
        let of = (self.device.org, self.device.device);
        let operation = TwinReport { device: self.device.clone(), values };
        let then = move |after: &AfterCommit, (): &()| {
            after.recorded();
            after.kept(of, RetentionClass::TwinHistory, bytes, count);
        };
        self.engine.execute_then(operation, then).await
    }

    /// Checks a report, and weighs it.
    fn admit_report(self, values: &[Reported]) -> Result<()> {
        if !(1..=RESOURCES_MAX as usize).contains(&values.len()) {
            return Err(Error::invalid("resource", "must be 1 to 256 at a time"));
        }
        values.iter().try_for_each(|one| validate(&one.resource, &one.value))?;
        self.charge(Weight::report(values.iter().map(Reported::bytes).sum(), values.len()))
    }
}

impl ForServer<'_> {
    /// Weighs what several devices of one organisation report, and stores it in one operation: as
    /// [`ForDevice::twin_report`], but what one of them may not report keeps back nothing of the others. Answers what
    /// became of each report, in their order.
    pub async fn twin_report_all(self, org: OrgId, reports: Vec<DeviceReport>) -> Vec<Result<()>> {
        let engine = self.engine;
        let admit = |report: &DeviceReport| {
            engine.for_device(&report.device).admit_report(&report.values)?;
            engine.after_commit.demand_quota(org, Some(report.device.device))
        };
        let mut done: Vec<Result<()>> = reports.iter().map(admit).collect();
        let mut is_admitted = done.iter().map(Result::is_ok);
        let admitted: Arc<[DeviceReport]> =
            reports.into_iter().filter(|_| is_admitted.next() == Some(true)).collect();
        if admitted.is_empty() {
            return done;
        }
        let stored = match self.store_reports(org, &admitted, 0..admitted.len()).await {
            // One of them may have spoilt it for all: each gets its own chance.
            Err(Error::Unavailable { reason: StorageFault::Io | StorageFault::Damaged })
                if admitted.len() > 1 =>
            {
                let mut stored = Vec::with_capacity(admitted.len());
                for place in 0..admitted.len() {
                    let alone = self.store_reports(org, &admitted, place..place + 1).await;
                    stored.push(alone.and_then(|stored| stored.into_iter().collect()));
                }
                Ok(stored)
            }
            stored => stored,
        };
        let places = done.iter_mut().filter(|done| done.is_ok());
        match stored {
            Ok(stored) => places.zip(stored).for_each(|(place, stored)| *place = stored),
            Err(error) => places.for_each(|place| *place = Err(error.clone())),
        }
        done
    }

    async fn store_reports(
        self,
        org: OrgId,
        reports: &Arc<[DeviceReport]>,
        range: Range<usize>,
    ) -> Result<Vec<Result<()>>> {
        let (kept, first) = (Arc::clone(reports), range.start);
        let then = move |after: &AfterCommit, stored: &Vec<Result<()>>| {
            after.recorded();
            for (report, _) in kept.iter().skip(first).zip(stored).filter(|(_, stored)| stored.is_ok()) {
                let bytes = report.values.iter().map(|one| one.value.len()).sum();
                let of = (org, report.device.device);
                after.kept(of, RetentionClass::TwinHistory, bytes, report.values.len());
            }
        };
        let operation = TwinReportAll { org, reports: Arc::clone(reports), range };
        self.engine.execute_then(operation, then).await
    }
}
