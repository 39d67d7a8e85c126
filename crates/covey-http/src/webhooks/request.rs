//! What an application says of a webhook, as the core has it.

use std::collections::BTreeMap;

use covey_api::{WebhookChange, WebhookFilter, WebhookNew, WebhookSet, Whole};
use covey_core::id::DeviceId;
use covey_core::record::RecordFilter;
use covey_core::webhook::{
    EndpointSpec, WebhookFormat, WebhookHeaders, WebhookSecret, WebhookType, WebhookUrl,
};
use covey_core::{Error, Result};

use crate::problem::Problem;
use crate::wire::TagWanted;

/// As the core has it.
fn record_filter(filter: WebhookFilter) -> RecordFilter {
    RecordFilter {
        devices: filter.device_id.into_iter().map(DeviceId).collect(),
        tags: filter.tag.iter().map(|text| TagWanted::read(text).into_pair()).collect(),
        kinds: Vec::new(),
        event_types: filter.event_type_code,
        granted: None,
    }
}

fn headers(headers: BTreeMap<String, String>) -> WebhookHeaders {
    WebhookHeaders(headers.into_iter().collect())
}

/// What is the same however a webhook is set. What is left out stays as it is.
struct Parts {
    filter: Option<WebhookFilter>,
    format: Option<String>,
    concurrency: Option<Whole>,
    device_id_in_path: Option<bool>,
}

impl Parts {
    fn apply(self, spec: &mut EndpointSpec) -> Result<()> {
        if let Some(filter) = self.filter {
            spec.filter = record_filter(filter);
        }
        if let Some(format) = self.format {
            spec.format = WebhookFormat::from_name(&format)
                .ok_or(Error::invalid("format", "must be contract or cloudevents"))?;
        }
        if let Some(Whole(concurrency)) = self.concurrency {
            // What does not fit is left to the core to refuse.
            spec.concurrency = u32::try_from(concurrency).unwrap_or(0);
        }
        spec.device_id_in_path = self.device_id_in_path.unwrap_or(spec.device_id_in_path);
        Ok(())
    }
}

/// The secret that was given.
pub(super) fn secret_of(given: Option<&str>) -> Option<WebhookSecret> {
    given.map(WebhookSecret::new)
}

/// What the core is asked for.
pub(super) fn new_spec(body: WebhookNew) -> Result<EndpointSpec, Problem> {
    let webhook_type = WebhookType::from_name(&body.event_type).ok_or_else(|| {
        Problem::invalid(
            "event_type",
            "must be msg-event, msg-task-result, msg-task, msg-presence or msg-twin",
        )
    })?;
    let mut spec = EndpointSpec::new(webhook_type, &body.url);
    spec.headers = headers(body.headers.unwrap_or_default());
    spec.is_active = body.is_active.unwrap_or(true);
    let parts = Parts {
        filter: body.filter,
        format: body.format,
        concurrency: body.concurrency,
        device_id_in_path: body.device_id_in_path,
    };
    parts.apply(&mut spec)?;
    Ok(spec)
}

/// What the core is asked for, of what there is, or of the defaults of a type.
pub(super) fn set_onto(
    body: WebhookSet,
    stored: Option<&EndpointSpec>,
    of: Option<WebhookType>,
) -> Result<EndpointSpec> {
    let new = || of.map(|webhook_type| EndpointSpec::new(webhook_type, ""));
    let mut spec = stored.cloned().or_else(new).ok_or(Error::not_found("webhook"))?;
    spec.url = WebhookUrl(body.url);
    spec.headers = headers(body.headers.unwrap_or_default());
    spec.is_active = body.is_active.unwrap_or(true);
    let parts = Parts {
        filter: body.filter,
        format: body.format,
        concurrency: body.concurrency,
        device_id_in_path: body.device_id_in_path,
    };
    parts.apply(&mut spec)?;
    Ok(spec)
}

/// What the core is asked for, of what there is.
pub(super) fn change_onto(body: WebhookChange, stored: Option<&EndpointSpec>) -> Result<EndpointSpec> {
    let mut spec = stored.cloned().ok_or(Error::not_found("webhook"))?;
    if let Some(url) = body.url {
        spec.url = WebhookUrl(url);
    }
    if let Some(given) = body.headers {
        spec.headers = headers(given);
    }
    spec.is_active = body.is_active.unwrap_or(spec.is_active);
    let parts = Parts {
        filter: body.filter,
        format: body.format,
        concurrency: body.concurrency,
        device_id_in_path: body.device_id_in_path,
    };
    parts.apply(&mut spec)?;
    Ok(spec)
}
