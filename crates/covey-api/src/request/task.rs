//! A task to be made.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
#[cfg(feature = "openapi")]
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType};
#[cfg(feature = "openapi")]
use utoipa::openapi::{AllOfBuilder, OneOfBuilder, RefOr};
#[cfg(feature = "openapi")]
use utoipa::{PartialSchema, ToSchema};

use crate::Whole;
use crate::number::present;

/// A task to be made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema), schema(as = TaskNewFields))]
pub struct TaskNew<'a> {
    /// The application's own id for the task. Need not be unique.
    #[cfg_attr(feature = "openapi", schema(max_length = 256, pattern = r"^[^\x00]*$"))]
    pub ext_task_id: String,
    /// The device, by its number; or else `device_sn`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = i64, required = false, minimum = 1, maximum = 9_007_199_254_740_991_i64))]
    pub device_id: Option<Whole>,
    /// The device, by its serial number; or else `device_id`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    pub device_sn: Option<String>,
    /// What the device is to do, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 0, maximum = 65_534, default = 20))]
    pub method_code: Option<Whole>,
    /// What the device is to do, as a name; carried to the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 128, pattern = r"^[^\x00-\x1F\x7F-\x9F]+$")
    )]
    pub method: Option<String>,
    /// A task of higher priority is taken first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 0, maximum = 9, default = 0))]
    pub priority: Option<Whole>,
    /// How long the task lives, in minutes. 0: it is only pushed to a device that is connected, never polled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 0, maximum = 44_639, default = 1))]
    pub ttl: Option<Whole>,
    /// The parameters, carried to the device byte for byte. At most 64 levels deep.
    #[serde(borrow, default, deserialize_with = "borrowed", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub payload: Option<Cow<'a, RawValue>>,
}

/// Reads JSON text where it stands, without a copy.
fn borrowed<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Cow<'a, RawValue>>, D::Error> {
    Ok(Option::<&'a RawValue>::deserialize(deserializer)?.map(Cow::Borrowed))
}

/// The schema of a task to be made: its fields, and that exactly one of two
/// of them names the device.
#[cfg(feature = "openapi")]
pub struct TaskNewSchema;

#[cfg(feature = "openapi")]
impl PartialSchema for TaskNewSchema {
    fn schema() -> RefOr<Schema> {
        let with = |field: &str| ObjectBuilder::new().schema_type(SchemaType::AnyValue).required(field);
        let device = OneOfBuilder::new().item(with("device_id")).item(with("device_sn"));
        let all = AllOfBuilder::new().item(<TaskNew<'_> as PartialSchema>::schema()).item(device);
        RefOr::T(Schema::AllOf(all.build()))
    }
}

#[cfg(feature = "openapi")]
impl ToSchema for TaskNewSchema {
    fn name() -> Cow<'static, str> {
        "TaskNew".into()
    }
}
