//! `GET /api/v1/devices`: a list of devices, in the order of their numbers.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use covey_api::Device;
use covey_core::device::DeviceFilter;
use covey_core::port::{LIST_BYTES_MAX, WHOLE_LIST_BYTES_MAX};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, ScanProblems};
use crate::extract::Parameters;
use crate::problem::Answer;
use crate::wire::{DeviceNumber, TagWanted, Whole, from_text, json, page};

/// How many devices a page has unless asked for otherwise: as many as one may
/// have, because clients that know no pages expect all.
const SIZE_DEFAULT: u32 = 1_000;
/// The header that tells how many devices there are on all pages.
const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

/// Which devices are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeviceListQuery {
    /// The one with this number.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    device_id: Option<DeviceNumber>,
    /// The one with this serial number.
    #[serde(default)]
    #[param(nullable = false)]
    sn: Option<String>,
    /// Those with this tag: `name`, `name:value` or `name=value`.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = String, required = false)]
    tag: Option<TagWanted>,
    /// Those that are connected, or those that are not.
    #[serde(default, deserialize_with = "from_text")]
    #[param(nullable = false)]
    online: Option<bool>,
    /// The number of the page.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_000_000_000, default = 1)]
    page: Option<Whole>,
    /// How many devices a page has. Of a page of which this is said, the tags have at most 4 MiB, and so have the
    /// gauges; of any other 16 MiB.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1000, default = 1000)]
    size: Option<Whole>,
}

/// A list of devices, in the order of their numbers
#[utoipa::path(
    get, path = "/api/v1/devices", tag = "devices",
    params(DeviceListQuery),
    responses(
        (status = 200, description = "The devices of the page.", body = Vec<Device>,
            headers(("X-Total-Count" = u64, description = "How many devices there are on all pages."))),
        InvalidProblem, ScanProblems, GuardProblems,
    )
)]
pub(super) async fn device_list(asked: Asked, Parameters(query): Parameters<DeviceListQuery>) -> Answer {
    let is_sized = query.size.is_some();
    let page = page(query.page, query.size, SIZE_DEFAULT);
    let filter = DeviceFilter {
        device_id: query.device_id.map(|DeviceNumber(id)| id),
        sn: query.sn,
        tag: query.tag.map(TagWanted::into_pair),
        online: query.online,
    };
    // Tags and gauges are within it each. Clients that know no pages cannot ask for fewer.
    let bytes_max = if is_sized { LIST_BYTES_MAX } else { WHOLE_LIST_BYTES_MAX };
    let read = || async {
        let found = asked.engine().device_list(filter.clone(), page, bytes_max).await?;
        let gauges = asked.engine().gauges_of(&found.items, bytes_max).await?;
        let devices: Vec<_> = found.items.iter().map(|device| Device::of(device, &gauges)).collect();
        let mut response = json(StatusCode::OK, &devices);
        response.headers_mut().insert(TOTAL_COUNT, HeaderValue::from(found.total));
        Ok(response)
    };
    asked.large(read).await
}
