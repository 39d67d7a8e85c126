//! `/api/v1/device-events`: what devices told unasked (rest-api "Events").

mod fields;
mod incremental;
mod list;
mod series;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
pub(crate) use list::TypeCode;

/// The routes of events.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([
        routes!(list::event_list),
        routes!(incremental::event_incremental),
        routes!(fields::event_fields),
        routes!(series::event_series),
    ])
}
