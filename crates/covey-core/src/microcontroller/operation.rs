//! Operations on microcontrollers.

use std::sync::Arc;

use crate::access::{Caller, with_keys};
use crate::audit::{AuditAction, AuditEntry};
use crate::device::{
    CertificateRecord, DeviceIdentity, DeviceKind, RetiredDevice, object_of, register_as, retire,
};
use crate::enrolment::{Certified, NONE};
use crate::error::Error;
use crate::id::{Sn, TaskId};
use crate::limits::Limits;
use crate::microcontroller::{AnswerKey, Api, CERTIFICATES_MAX, Request};
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};
use crate::presence::Reason;
use crate::task::{Refused, Task, TaskDetail, TaskStatus, hand_out, held, refuse};

/// How many tasks that a microcontroller cannot do end in one step.
/// Limit for each step: the rest follows at once.
const ENDED_MAX: usize = 16;
/// How many bytes of parameters of waiting tasks are looked at.
/// Limit for each microcontroller: what waits behind them is looked at when earlier ones have ended.
const LOOKED_AT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Said of a method that no microcontroller has (RFC 9110 §15.6.2).
const NOT_IMPLEMENTED: i64 = 501;
/// Said of parameters that are not as they must be (RFC 9110 §15.5.1).
const BAD_REQUEST: i64 = 400;

/// Said of a call whose answer nobody waits for any more (RFC 9110 §15.6.5). It is not made again: the device may have
/// done what it asks for.
const LEFT: Refused = Refused {
    status_code: 504,
    why: "the device was told, and then the server ended, or the device went to another server",
};

/// Whoever is registered under a name is another device, or nobody is.
pub(super) const NOT_OURS: Error =
    Error::Conflict { problem: "no microcontroller of this organisation is registered under this name" };
/// The name is that of a device that is none of these.
pub(super) const TAKEN: Error =
    Error::Conflict { problem: "the name is that of a device that was not registered as a microcontroller" };

/// Registers a microcontroller with a certificate, or gives one that is registered another certificate; those that it
/// has stay good, but for the oldest.
pub struct MicrocontrollerRegister {
    /// Who asks.
    pub caller: Caller,
    /// Its name.
    pub sn: Sn,
    /// The certificate that was issued to it.
    pub certificate: CertificateRecord,
}

impl Operation for MicrocontrollerRegister {
    type Output = Certified;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Certified, Abort> {
        let certified = match tx.device_of_name(&self.sn)? {
            None => {
                let org = self.caller.org;
                let device = register_as(tx, DeviceKind::Microcontroller, org, &self.sn, None, &[])?;
                Certified { device, superseded_hex: Vec::new() }
            }
            Some(found) if is_own(&found, &self.caller) => {
                let (device, now) = (found.identity, tx.now());
                let keep = CERTIFICATES_MAX - 1;
                let superseded_hex = tx.certificates_supersede(device.device, NONE, keep, now)?;
                Certified { device, superseded_hex }
            }
            Some(_) => return Err(TAKEN.into()),
        };
        tx.certificate_insert(certified.device.device, &self.certificate)?;
        Ok(certified)
    }

    fn entries(&self, certified: &Certified) -> Vec<AuditEntry> {
        let action = AuditAction::MicrocontrollerRegister;
        let entry = AuditEntry::of(&self.caller, action, object_of(&certified.device));
        vec![certified.named_in(entry, &self.certificate)]
    }
}

/// Retires a microcontroller: its certificates are revoked.
pub struct MicrocontrollerRetire {
    /// Who asks.
    pub caller: Caller,
    /// Its name.
    pub sn: Sn,
}

impl Operation for MicrocontrollerRetire {
    type Output = RetiredDevice;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::ShutOut(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<RetiredDevice, Abort> {
        let found = tx.device_of_name(&self.sn)?.filter(|found| is_own(found, &self.caller));
        let found = found.ok_or(NOT_OURS)?;
        let device = tx.device(self.caller.org, found.identity.device_id)?.ok_or(NOT_OURS)?;
        retire(tx, device, Reason::Revoked)
    }

    fn entries(&self, RetiredDevice { identity, ended }: &RetiredDevice) -> Vec<AuditEntry> {
        let action = AuditAction::MicrocontrollerRetire;
        with_keys(AuditEntry::of(&self.caller, action, object_of(identity)).device(identity), ended)
    }
}

/// Whether a caller may say what becomes of a device as of a microcontroller.
pub(super) fn is_own(found: &crate::device::NamedDevice, caller: &Caller) -> bool {
    found.identity.org == caller.org && found.kind == DeviceKind::Microcontroller
}

/// What a microcontroller is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MicrocontrollerCall {
    /// The task; its result ends it.
    pub task: TaskId,
    /// The call.
    pub request: Request,
    /// By what its answer is known.
    pub key: AnswerKey,
    /// How long the task still lives, in milliseconds.
    pub left_ms: i64,
}

/// A link asks what a microcontroller is to be told next.
pub struct MicrocontrollerNext {
    /// The device.
    pub device: DeviceIdentity,
    /// The answers that are waited for, or about to be stored: no other call with one of these begins meanwhile. All
    /// else that was taken was left.
    pub busy: Vec<AnswerKey>,
    /// Whether answers to calls about pins name the pin.
    pub is_numbered: bool,
    /// The limits in force.
    pub limits: Limits,
}

/// The answer to that.
#[derive(Clone, Debug, Default)]
pub struct NextCall {
    /// What it is to be told, if anything.
    pub call: Option<MicrocontrollerCall>,
    /// The task of that.
    pub taken: Option<Arc<Task>>,
    /// Tasks that ended: no microcontroller can do them, or nobody waits for their answers any more.
    pub ended: Vec<Arc<TaskDetail>>,
    /// How many bytes the body of each of their results has.
    pub answered: Vec<usize>,
    /// Whether so many ended that it is to be asked again.
    pub is_more: bool,
}

impl Operation for MicrocontrollerNext {
    type Output = NextCall;

    fn turn(&self) -> Turn {
        Turn::Org(self.device.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<NextCall, Abort> {
        let (org, device) = (self.device.org, self.device.device);
        let limit = self.limits.live_tasks_per_device_max;
        let mut next = NextCall::default();
        for candidate in tx.tasks_waiting(org, device, limit, LOOKED_AT_BYTES_MAX)? {
            let request = read(candidate.method.as_deref(), candidate.payload.as_deref());
            let key = |request: &Request| request.key(self.is_numbered);
            if request.as_ref().is_ok_and(|request| self.busy.contains(&key(request))) {
                continue;
            }
            let Some(task) = held(tx, org, candidate.id)? else { continue };
            let refused = match request {
                Ok(request) if task.status != TaskStatus::Lock => {
                    let Some(task) = hand_out(tx, task, &self.limits)? else { continue };
                    let (key, left_ms) = (key(&request), task.expires_at.since_ms(tx.now()));
                    next.call = Some(MicrocontrollerCall { task: candidate.id, request, key, left_ms });
                    next.taken = Some(Arc::new(task));
                    return Ok(next);
                }
                Ok(_) => LEFT,
                Err(refused) => refused,
            };
            if let Some((ended, bytes)) = refuse(tx, task, refused, &self.limits)? {
                next.ended.push(ended);
                next.answered.push(bytes);
            }
            if next.ended.len() >= ENDED_MAX {
                next.is_more = true;
                return Ok(next);
            }
        }
        Ok(next)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// What a task asks of a microcontroller.
fn read(method: Option<&str>, payload: Option<&str>) -> Result<Request, Refused> {
    let api = method.and_then(Api::from_name).ok_or(Refused {
        status_code: NOT_IMPLEMENTED,
        why: "a microcontroller takes get_gpio, set_gpio, get_rtc, set_rtc, get_status and set_status alone",
    })?;
    Request::read(api, payload).map_err(|why| Refused { status_code: BAD_REQUEST, why })
}
