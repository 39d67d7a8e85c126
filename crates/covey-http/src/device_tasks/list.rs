//! `GET /api/v1/device-tasks`: a page of tasks, newest first.

use std::str::FromStr;

use axum::http::StatusCode;
use covey_api::TaskPage;
use covey_core::task::{TaskFilter, TaskStatus};
use serde::Deserialize;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{OneOfBuilder, RefOr};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, ScanProblems};
use crate::extract::Parameters;
use crate::problem::Answer;
use crate::wire::{DeviceNumber, Moment, Whole, from_text, json, page};

/// How many tasks a page has unless asked for otherwise (rest-api "Tasks").
const SIZE_DEFAULT: u32 = 50;

/// Which tasks are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TaskListQuery {
    /// Those of the device with this number.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    device_id: Option<DeviceNumber>,
    /// Those in this state, by its number or its name.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = StatusFilter, required = false, inline)]
    status: Option<StatusFilter>,
    /// Those with this id of the application.
    #[serde(default)]
    #[param(nullable = false)]
    ext_task_id: Option<String>,
    /// Those made at or after this instant: Unix seconds, or RFC 3339.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = Moment, inline, required = false)]
    created_after: Option<Moment>,
    /// Those made before this instant: Unix seconds, or RFC 3339.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = Moment, inline, required = false)]
    created_before: Option<Moment>,
    /// The number of the page.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<Whole>,
    /// How many tasks a page has.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 50)]
    size: Option<Whole>,
}

/// A state in a query.
#[derive(Clone, Copy)]
struct StatusFilter(TaskStatus);

impl FromStr for StatusFilter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let by_number = || text.parse().ok().and_then(|Whole(number)| TaskStatus::from_number(number));
        let by_name = || TaskStatus::ALL.into_iter().find(|status| status.name() == text);
        by_number().or_else(by_name).map(Self).ok_or("must be 0 to 7 or the name of a state, like READY")
    }
}

impl PartialSchema for StatusFilter {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer));
        let name = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        let either = OneOfBuilder::new()
            .item(number.minimum(Some(0)).maximum(Some(7)))
            .item(name.enum_values(Some(TaskStatus::ALL.map(TaskStatus::name))));
        RefOr::T(Schema::OneOf(either.build()))
    }
}

impl ToSchema for StatusFilter {}

/// A page of tasks, newest first
#[utoipa::path(
    get, path = "/api/v1/device-tasks", tag = "tasks",
    params(TaskListQuery),
    responses(
        (status = 200, description = "The page.", body = TaskPage),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
pub(super) async fn task_list(asked: Asked, Parameters(query): Parameters<TaskListQuery>) -> Answer {
    let page = page(query.page, query.size, SIZE_DEFAULT);
    let filter = TaskFilter {
        device_id: query.device_id.map(|DeviceNumber(id)| id),
        status: query.status.map(|StatusFilter(status)| status),
        ext_task_id: query.ext_task_id,
        created_after: query.created_after.map(|Moment(at)| at),
        created_before: query.created_before.map(|Moment(at)| at),
    };
    let read = || async {
        let found = asked.engine().task_list(filter.clone(), page).await?;
        Ok(json(StatusCode::OK, &TaskPage::of(&found, page, asked.api.engine.now())))
    };
    asked.large(read).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_named_by_its_number_or_its_name() {
        for (text, status) in
            [("0", TaskStatus::Ready), ("6", TaskStatus::Failed), ("LOCK", TaskStatus::Lock)]
        {
            assert_eq!(text.parse::<StatusFilter>().map(|found| found.0), Ok(status), "{text}");
        }
        for bad in ["", "8", "-1", "lock", "1.5"] {
            assert!(bad.parse::<StatusFilter>().is_err(), "{bad}");
        }
    }
}
