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
    let router = with_slash(OpenApiRouter::default(), routes!(list::event_list));
    let router = with_slash(router, routes!(incremental::event_incremental));
    let router = with_slash(router, routes!(fields::event_fields));
    with_slash(router, routes!(series::event_series))
}
