//! OpenAPI schemas that no derive can write: instants, states, and names out of
//! the fixed sets that the domain has.

use std::borrow::Cow;

use covey_core::access::{CallerKind, GRANTABLE, RIGHT_NAMES, Role};
use covey_core::audit::AuditOutcome;
use covey_core::certificate::{CertificateState, RevocationReason};
use covey_core::node::NodeState;
use covey_core::presence::Reason;
use covey_core::record::RecordKind;
use covey_core::retention::{AUDIT_DAYS_MIN, DAYS_MAX};
use covey_core::task::{Cause, METHOD_CHARS_MAX, METHOD_CODE_MAX};
use covey_core::unit::UnitKind;
use serde_json::json;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use crate::{GrantMethod, TaskStatus, Time};

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        let schema = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("An instant in UTC (RFC 3339)."))
            .examples([json!("2026-02-03T04:05:06.789Z")])
            .build();
        RefOr::T(Schema::Object(schema))
    }
}

impl ToSchema for Time {}

impl PartialSchema for TaskStatus {
    fn schema() -> RefOr<Schema> {
        let numbers = Self::ALL.map(|status| format!("{} {}", status.number(), status.name()));
        let schema = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Integer))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
            .minimum(Some(0))
            .maximum(Some(7))
            .description(Some(format!("{}.", numbers.join(", "))))
            .build();
        RefOr::T(Schema::Object(schema))
    }
}

impl ToSchema for TaskStatus {}

/// A serial number of a device.
pub struct SerialNumber;

impl PartialSchema for SerialNumber {
    fn schema() -> RefOr<Schema> {
        let schema = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .pattern(Some("^[A-Za-z0-9_-]{1,64}$"))
            .description(Some("A serial number of a device."));
        RefOr::T(Schema::Object(schema.build()))
    }
}

impl ToSchema for SerialNumber {}

/// For how many days the audit log is kept.
pub struct AuditDays;

impl PartialSchema for AuditDays {
    fn schema() -> RefOr<Schema> {
        let days = |least: u32, most: u32, about: &str| {
            ObjectBuilder::new()
                .schema_type(SchemaType::Type(Type::Integer))
                .minimum(Some(least))
                .maximum(Some(most))
                .description(Some(about))
        };
        let one = OneOfBuilder::new()
            .item(days(0, 0, "For ever."))
            .item(days(AUDIT_DAYS_MIN, DAYS_MAX, "So many days."))
            .description(Some("For how many days the audit log is kept."));
        RefOr::T(Schema::OneOf(one.build()))
    }
}

impl ToSchema for AuditDays {}

impl PartialSchema for GrantMethod {
    fn schema() -> RefOr<Schema> {
        let code = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Integer))
            .minimum(Some(0))
            .maximum(Some(METHOD_CODE_MAX))
            .description(Some("The number of the method of tasks that name none."));
        let name = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .min_length(Some(1))
            .max_length(Some(METHOD_CHARS_MAX))
            .pattern(Some(r"^[^\x00-\x1F\x7F-\x9F]+$"))
            .description(Some("The name of the method of tasks that name one, whatever its number."));
        let one = OneOfBuilder::new()
            .item(code)
            .item(name)
            .description(Some("A method of tasks."))
            .examples([json!(20), json!("open")]);
        RefOr::T(Schema::OneOf(one.build()))
    }
}

impl ToSchema for GrantMethod {}

/// Types that stand for the schema of a name out of a fixed set.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident as $shown:literal = $names:expr, $description:literal;)+) => {
        $(
            $(#[$doc])*
            pub struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let schema = ObjectBuilder::new()
                        .schema_type(SchemaType::Type(Type::String))
                        .enum_values(Some($names))
                        .description(Some($description));
                    RefOr::T(Schema::Object(schema.build()))
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    $shown.into()
                }
            }
        )+
    };
}

names! {
    /// The state of a task.
    TaskStatusName as "TaskStatusName" = TaskStatus::ALL.map(TaskStatus::name), "A state of a task.";
    /// Why a state changed.
    TaskCause as "TaskCause" = Cause::NAMES.map(|(_, name)| name), "Why the state of a task changed.";
    /// What a record is about.
    RecordKindName as "RecordKindName" = RecordKind::NAMES.map(|(_, name)| name), "What changed.";
    /// A right that may be had for some devices alone.
    GrantableRightName as "GrantableRightName" = GRANTABLE.names(), "A right that may be had for some devices alone.";
    /// By what somebody is known who asks.
    CallerKindName as "CallerKind" = CallerKind::NAMES.map(|(_, name)| name), "By what somebody is known who asks: an API key, or a certificate that stands for one; a token; a person who has signed in; the server itself.";
    /// Rights that go together.
    RoleName as "RoleName" = Role::NAMES.map(|(_, name)| name), "Rights that go together.";
    /// Why a device came or went.
    ReasonName as "ReasonName" = Reason::NAMES.map(|(_, name)| name), "Why.";
    /// What a unit does.
    UnitKindName as "UnitKind" = UnitKind::NAMES.map(|(_, name)| name), "What it does: `read` sends a measurement a line, `update` waits for a line.";
    /// What a certificate is worth.
    CertificateStateName as "CertificateState" = CertificateState::NAMES.map(|(_, name)| name), "What a certificate is worth.";
    /// Why a certificate was revoked.
    RevocationReasonName as "RevocationReason" = RevocationReason::NAMES.map(|(_, name)| name), "Why a certificate was revoked (RFC 5280 section 5.3.1).";
    /// Whether a node may join.
    NodeStateName as "NodeState" = NodeState::NAMES.map(|(_, name)| name), "Whether a node may join.";
    /// What came of something.
    AuditOutcomeName as "AuditOutcome" = AuditOutcome::NAMES.map(|(_, name)| name), "What came of it.";
    /// A right of a credential.
    RightName as "Right" = RIGHT_NAMES, "A right.";
}
