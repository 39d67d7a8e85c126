//! `/api/v1/devices`: the registry, tags, presence, certificates (rest-api "Devices").

mod list;
mod request;
mod twin;

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use covey_api::{Device, DeviceNew, DeviceRegistered, DeviceRetired, TagNew, TagPut};
use covey_core::Error;
use covey_core::device::DeviceFilter;
use covey_core::port::PageRequest;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Authenticated;
use crate::docs::{BodyProblems, ConflictProblem, GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::{RawBody, Segment};
use crate::problem::Problem;
use crate::wire::{DeviceNumber, json};
use request::{into_spec, into_tag};

/// The routes of devices.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    let router = with_slash(OpenApiRouter::default(), routes!(list::device_list, device_register));
    let router = with_slash(router, routes!(device_get, tag_put, device_retire));
    let router = with_slash(router, routes!(twin::twin_get, twin::twin_patch));
    with_slash(router, routes!(twin::twin_history))
}

/// Registers a device and issues its certificate
#[utoipa::path(
    post, path = "/api/v1/devices", tag = "devices",
    request_body(content = DeviceNew, content_type = "application/json",
        example = json!({"sn": "lamp-1", "tags": [{"tag": "room", "value": "hall"}]})),
    responses(
        (status = 201, description = "The device is registered. Keep the private key: it is not stored.",
            body = DeviceRegistered,
            headers(
                ("Location" = String, description = "Where the device is."),
                ("Cache-Control" = String, description = "Always `no-store`."),
            )),
        BodyProblems, ConflictProblem, GuardProblems,
    )
)]
async fn device_register(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    body: RawBody,
) -> Result<Response, Problem> {
    let spec = into_spec(body.read()?)?;
    let (device, issued) = api.engine.for_caller(&caller).device_register(spec).await?;
    let issued = issued.as_ref();
    let answer = DeviceRegistered {
        device: Device::of(&device, &[]),
        certificate_pem: issued.map(|issued| Cow::Borrowed(issued.certificate_pem.as_str())),
        ca_pem: issued.map(|issued| Cow::Borrowed(issued.ca_pem.as_str())),
        private_key_pem: issued.and_then(|issued| issued.private_key_pem.as_deref().map(Cow::Borrowed)),
    };
    let mut response = json(StatusCode::CREATED, &answer);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/devices/{}", device.identity.device_id.0)) {
        headers.insert(LOCATION, location);
    }
    Ok(response)
}

/// One device
#[utoipa::path(
    get, path = "/api/v1/devices/{device_id}", tag = "devices",
    params(("device_id" = i64, Path, description = "The device's number.", minimum = 1, maximum = 9_007_199_254_740_991_i64)),
    responses(
        (status = 200, description = "The device.", body = Device),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn device_get(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    Segment(DeviceNumber(id)): Segment<DeviceNumber>,
) -> Result<Response, Problem> {
    let filter = DeviceFilter { device_id: Some(id), ..DeviceFilter::default() };
    let found = api.engine.for_caller(&caller).device_list(filter, PageRequest { page: 1, size: 1 }).await?;
    let device = found.items.first().ok_or(Error::not_found("device"))?;
    let gauges = api.engine.for_caller(&caller).gauges_of(std::slice::from_ref(device)).await?;
    Ok(json(StatusCode::OK, &Device::of(device, &gauges)))
}

/// Sets a tag of a device
#[utoipa::path(
    put, path = "/api/v1/devices/{device_id}", tag = "devices",
    params(("device_id" = i64, Path, description = "The device's number.", minimum = 1, maximum = 9_007_199_254_740_991_i64)),
    request_body(content = TagNew, content_type = "application/json"),
    responses(
        (status = 200, description = "The tag is set.", body = TagPut),
        BodyProblems, NotFoundProblem, GuardProblems,
    )
)]
async fn tag_put(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    Segment(DeviceNumber(id)): Segment<DeviceNumber>,
    body: RawBody,
) -> Result<Response, Problem> {
    let tag = into_tag(body.read()?);
    let tag_id = api.engine.for_caller(&caller).tag_put(id, tag).await?;
    Ok(json(StatusCode::OK, &TagPut { tag_id }))
}

/// Retires a device: its certificates are revoked and its connection is closed
#[utoipa::path(
    delete, path = "/api/v1/devices/{device_id}", tag = "devices",
    params(("device_id" = i64, Path, description = "The device's number.", minimum = 1, maximum = 9_007_199_254_740_991_i64)),
    responses(
        (status = 200, description = "The device is retired.", body = DeviceRetired),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn device_retire(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    Segment(DeviceNumber(id)): Segment<DeviceNumber>,
) -> Result<Response, Problem> {
    let identity = api.engine.for_caller(&caller).device_retire(id).await?;
    let retired_at = api.engine.now().seconds();
    let sn = Cow::Borrowed(identity.sn.as_str());
    let answer = DeviceRetired { device_id: identity.device_id.0, sn, retired_at };
    Ok(json(StatusCode::OK, &answer))
}
