//! What an operation can read and write inside a transaction.

use crate::access::AccessSteps;
use crate::audit::AuditSteps;
use crate::certificate::CertificateSteps;
use crate::device::DeviceSteps;
use crate::device_session::SessionSteps;
use crate::enrolment::EnrolmentSteps;
use crate::error::StorageFault;
use crate::event::EventSteps;
use crate::id::UnixMs;
use crate::node::NodeSteps;
use crate::own_limits::LimitsSteps;
use crate::person::PersonSteps;
use crate::presence::PresenceSteps;
use crate::quota::QuotaSteps;
use crate::record::RecordSteps;
use crate::retention::RetentionSteps;
use crate::task::TaskSteps;
use crate::token::TokenSteps;
use crate::twin::TwinSteps;
use crate::unit::UnitSteps;
use crate::usage::UsageSteps;
use crate::webhook::WebhookSteps;

/// The result of a step inside a transaction.
pub type TxResult<T> = Result<T, StorageFault>;

/// The steps. All of them see the writes made before them in the same transaction.
pub trait Transaction:
    TaskSteps
    + DeviceSteps
    + CertificateSteps
    + EnrolmentSteps
    + EventSteps
    + RecordSteps
    + PresenceSteps
    + SessionSteps
    + TwinSteps
    + NodeSteps
    + UnitSteps
    + WebhookSteps
    + AccessSteps
    + TokenSteps
    + PersonSteps
    + RetentionSteps
    + QuotaSteps
    + UsageSteps
    + LimitsSteps
    + AuditSteps
{
    /// The instant of this transaction.
    fn now(&self) -> UnixMs;
}
