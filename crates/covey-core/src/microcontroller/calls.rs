//! What can be asked of microcontrollers.

use crate::access::{Matter, Rights};
use crate::budget::Weight;
use crate::device::{DeviceIdentity, DeviceRegister, IssuedCertificate, RetiredDevice, TagsOf};
use crate::engine::after_commit::AfterCommit;
use crate::engine::{ForCaller, ForDevice};
use crate::enrolment::Certified;
use crate::error::{Error, Result};
use crate::id::{Sn, TaskId};
use crate::microcontroller::operation::{NOT_OURS, TAKEN, is_own};
use crate::microcontroller::{
    ANSWER_MS_MAX, AnswerKey, MicrocontrollerCall, MicrocontrollerNext, MicrocontrollerRegister,
    MicrocontrollerRetire, NextCall, Request,
};
use crate::port::{CertificateKey, Step};
use crate::retention::RetentionClass;
use crate::task::{Call, DeviceRef, TaskSpec};

/// How urgent a call is: as a task that does not say.
const PRIORITY: i64 = 0;
/// The number of the method of a call: that of a task which names none.
const METHOD_CODE: i64 = 20;

/// A microcontroller that a caller may call and retire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnMicrocontroller(DeviceIdentity);

impl OwnMicrocontroller {
    /// Which device it is.
    #[must_use]
    pub fn identity(&self) -> &DeviceIdentity {
        &self.0
    }
}

impl ForCaller<'_> {
    /// The microcontroller of this name.
    ///
    /// # Errors
    /// A missing right, [`Error::Conflict`](crate::Error::Conflict) for a name that is another's or nobody's, or the
    /// store's.
    pub async fn microcontroller(self, sn: &Sn) -> Result<OwnMicrocontroller> {
        self.caller.require_some(Rights::DEVICES_READ)?;
        let found = self.engine.parts.store.device_of_name_of_every_org(sn.clone()).await?;
        let found = found.filter(|found| is_own(found, self.caller)).ok_or(NOT_OURS)?;
        let device = TagsOf::Key(found.identity.device);
        self.demand(Rights::DEVICES_READ, device, Matter::Device, "device").await.map_err(
            |error| match error {
                Error::NotFound { .. } => NOT_OURS,
                other => other,
            },
        )?;
        Ok(OwnMicrocontroller(found.identity))
    }

    /// Whether a microcontroller may be registered, or registered again, under this name: asked before a key is made
    /// for it, and again when it is stored.
    ///
    /// # Errors
    /// A missing right, a name out of range, [`Error::Conflict`](crate::Error::Conflict) for a name that is another's,
    /// or the store's.
    pub async fn microcontroller_may_register(self, sn: &Sn) -> Result<()> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        DeviceRegister::validate(Some(sn), None, &[])?;
        let found = self.engine.parts.store.device_of_name_of_every_org(sn.clone()).await?;
        if found.is_some_and(|found| !is_own(&found, self.caller)) {
            return Err(TAKEN);
        }
        Ok(())
    }

    /// Makes an RSA key and a certificate for a microcontroller, which admit nobody before they are
    /// [stored](Self::microcontroller_register). This computes for a tenth of a second, or several.
    ///
    /// # Errors
    /// A missing right, or that the certificate cannot be issued.
    pub fn microcontroller_certificate(self, sn: &Sn) -> Result<IssuedCertificate> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        self.engine.parts.issuer.issue(sn, CertificateKey::Rsa2048, self.engine.now())
    }

    /// Registers a microcontroller with this certificate, or adds it to those that it has.
    ///
    /// # Errors
    /// As of [`Self::microcontroller_may_register`].
    pub async fn microcontroller_register(
        self,
        sn: Sn,
        certificate: &IssuedCertificate,
    ) -> Result<DeviceIdentity> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        DeviceRegister::validate(Some(&sn), None, &[])?;
        self.charge(Weight::WRITE)?;
        let certificate = certificate.record.clone();
        let operation = MicrocontrollerRegister { caller: self.caller.clone(), sn, certificate };
        let then = |after: &AfterCommit, certified: &Certified| {
            certified.tell_some_gone(after);
            after.links.admit(&certified.device.sn)
        };
        let (certified, admitted) = self.engine.execute_with(operation, then).await?;
        admitted.await;
        Ok(certified.device)
    }

    /// Retires the microcontroller of this name: its certificates are revoked and its connection closed.
    ///
    /// # Errors
    /// As of [`Self::microcontroller`].
    pub async fn microcontroller_retire(self, sn: Sn) -> Result<DeviceIdentity> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        self.charge_relief(Weight::WRITE)?;
        let operation = MicrocontrollerRetire { caller: self.caller.clone(), sn };
        let tell = |after: &AfterCommit, RetiredDevice { identity, .. }: &RetiredDevice| {
            after.recorded();
            after.revoked(&identity.sn);
        };
        Ok(self.engine.execute_then(operation, tell).await?.identity)
    }

    /// Makes the task of a call, for somebody who waits for its end. It lives for [`ANSWER_MS_MAX`].
    ///
    /// # Errors
    /// As of [`Self::task_call`].
    pub fn microcontroller_call(self, id: TaskId, of: &OwnMicrocontroller, request: Request) -> Result<Call> {
        let spec = TaskSpec {
            device: DeviceRef::Id(of.0.device_id),
            ext_task_id: String::new(),
            method_code: METHOD_CODE,
            method: Some(request.api.name().to_owned()),
            priority: PRIORITY,
            ttl_minutes: 1,
            payload: Some(request.parameters.into()),
        };
        self.task_call_within(id, spec, ANSWER_MS_MAX)
    }
}

impl ForDevice<'_> {
    /// What a microcontroller is to be told next, while these answers are waited for or about to be stored. Tasks that
    /// it cannot do end here, and those that were taken and left: a call is told once. The result goes the way of every
    /// other ([`Self::task_finish`]).
    ///
    /// # Errors
    /// The store's.
    pub async fn microcontroller_next(
        self,
        busy: Vec<AnswerKey>,
        is_numbered: bool,
    ) -> Result<Option<MicrocontrollerCall>> {
        let (began_us, key) = (self.engine.parts.clock.monotonic_us(), self.device.device);
        let of = (self.device.org, key);
        loop {
            let limits = self.engine.parts.limits;
            let (device, busy) = (self.device.clone(), busy.clone());
            let operation = MicrocontrollerNext { device, busy, is_numbered, limits };
            let then = move |after: &AfterCommit, next: &NextCall| {
                next.ended.iter().for_each(|detail| after.finished(detail));
                let kept = |bytes: &usize| after.kept(of, RetentionClass::Tasks, *bytes, 1);
                next.answered.iter().for_each(kept);
                if let Some(task) = &next.taken {
                    after.answered(key, task.id);
                    after.taken(task);
                }
                after.took_since(Step::Take, began_us);
            };
            let next = self.engine.execute_then(operation, then).await?;
            if next.call.is_some() || !next.is_more {
                return Ok(next.call);
            }
        }
    }
}
