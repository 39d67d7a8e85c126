//! What can be asked of twins.

use std::sync::Arc;

use crate::access::Rights;
use crate::engine::ForCaller;
use crate::error::{Error, Result};
use crate::id::DeviceId;
use crate::port::Filling;
use crate::retention::RetentionClass;
use crate::twin::{ChangedTwin, HISTORY_MAX, ReportedValue, Twin, TwinChangeAll, TwinPatch, validate};

impl ForCaller<'_> {
    /// A device's twin.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn twin_get(self, device: DeviceId) -> Result<Twin> {
        self.caller.require(Rights::DEVICES_READ)?;
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
        self.caller.require(Rights::DEVICES_READ)?;
        validate(&resource, "")?;
        if !(1..=HISTORY_MAX).contains(&limit) {
            return Err(Error::invalid("limit", "must be 1 to 1000"));
        }
        let history =
            self.engine.parts.store.twin_history(self.caller, device, resource, before, limit).await?;
        let mut values = Filling::default();
        for value in history.ok_or(Error::not_found("device"))? {
            let bytes = value.value.as_ref().map_or(0, |value| value.len());
            if !values.add(value, bytes) {
                break;
            }
        }
        Ok(values.done().items)
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
            self.caller.require(Rights::DEVICES_WRITE)?;
        }
        if !patch.desired.is_empty() {
            self.caller.require(Rights::TASKS_WRITE)?;
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
            limits: self.engine.parts.limits,
            after_commit: Arc::clone(&self.engine.after_commit),
        };
        let changed = self.engine.execute_then(operation, move |after, changed: &ChangedTwin| {
            after.recorded();
            let device = &changed.twin.device;
            after.kept((device.org, device.device), RetentionClass::TwinHistory, bytes, reported);
            changed.made.iter().for_each(|task| after.kept_task(task));
            changed.superseded.iter().for_each(|detail| after.finished(detail));
            changed.made.iter().for_each(|task| after.opened(task));
        });
        Ok(changed.await?.twin)
    }
}
