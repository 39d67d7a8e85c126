//! `/api/v1/devices`: the registry, tags, presence, certificates (rest-api "Devices").

mod bundle;
mod list;
mod request;
mod twin;

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use covey_api::{Device, DeviceNew, DeviceRegistered, DeviceRetired, DeviceTag, TagPut};
use covey_core::Error;
use covey_core::device::DeviceFilter;
use covey_core::port::{PageRequest, WHOLE_LIST_BYTES_MAX};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{BodyProblems, ConflictProblem, GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::{RawBody, Segment};
use crate::problem::Answer;
use crate::wire::{DeviceNumber, json};
use bundle::Bundle;
use request::{into_spec, into_tag};

/// The routes of devices.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([
        routes!(list::device_list, device_register),
        routes!(device_get, tag_put, device_retire),
        routes!(twin::twin_get, twin::twin_patch),
        routes!(twin::twin_history),
    ])
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
async fn device_register(asked: Asked, body: RawBody) -> Answer {
    let wanted: DeviceNew = body.read()?;
    let bundle = Bundle::of(&wanted, &asked.api)?;
    let spec = into_spec(wanted)?;
    let (device, issued) = asked.engine().device_register(spec).await?;
    let mut answer = DeviceRegistered::without_certificate(Device::of(&device, &[]));
    if let Some(issued) = &issued {
        bundle.give(&mut answer, device.identity.sn.as_str(), issued).await?;
    }
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
async fn device_get(asked: Asked, Segment(DeviceNumber(id)): Segment<DeviceNumber>) -> Answer {
    let filter = DeviceFilter { device_id: Some(id), ..DeviceFilter::default() };
    let page = PageRequest { page: 1, size: 1 };
    let read = || async {
        let found = asked.engine().device_list(filter.clone(), page, WHOLE_LIST_BYTES_MAX).await?;
        let device = found.items.first().ok_or(Error::not_found("device"))?;
        let gauges = asked.engine().gauges_of(std::slice::from_ref(device), WHOLE_LIST_BYTES_MAX).await?;
        Ok(json(StatusCode::OK, &Device::of(device, &gauges)))
    };
    asked.large(read).await
}

/// Sets a tag of a device
#[utoipa::path(
    put, path = "/api/v1/devices/{device_id}", tag = "devices",
    params(("device_id" = i64, Path, description = "The device's number.", minimum = 1, maximum = 9_007_199_254_740_991_i64)),
    request_body(content = DeviceTag, content_type = "application/json"),
    responses(
        (status = 200, description = "The tag is set.", body = TagPut),
        BodyProblems, NotFoundProblem, GuardProblems,
    )
)]
async fn tag_put(asked: Asked, Segment(DeviceNumber(id)): Segment<DeviceNumber>, body: RawBody) -> Answer {
    let tag = into_tag(body.read()?);
    let tag_id = asked.engine().tag_put(id, tag).await?;
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
async fn device_retire(asked: Asked, Segment(DeviceNumber(id)): Segment<DeviceNumber>) -> Answer {
    let identity = asked.engine().device_retire(id).await?;
    // Its certificate may have stood for a key.
    asked.api.callers.forget();
    let retired_at = asked.api.engine.now().seconds();
    let sn = Cow::Borrowed(identity.sn.as_str());
    let answer = DeviceRetired { device_id: identity.device_id.0, sn, retired_at };
    Ok(json(StatusCode::OK, &answer))
}
