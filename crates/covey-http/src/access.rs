//! `/api/v1/access/explain`: why a key may do something, or may not. Which rights each operation takes stands here, once,
//! for whoever asks; the operations demand them by themselves, and a test compares the two.

use std::sync::Arc;

use axum::http::StatusCode;
use covey_api::AccessExplanation;
use covey_core::access::{Matter, Question, Rights};
use covey_core::device::TagsOf;
use covey_core::record::RecordKind;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{Api, with_slash};
use crate::auth::Asked;
use crate::docs::{GuardProblems, InvalidProblem, NotFoundProblem};
use crate::extract::Parameters;
use crate::problem::{Answer, Problem};
use crate::wire::{DeviceNumber, Whole, from_text, json};

/// For what of a device an operation takes its rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// For the organisation as a whole.
    Whole,
    /// For a device.
    Device,
    /// For a task.
    Task,
    /// For an event.
    Event,
}

/// Each operation that takes rights, with these.
const OPERATIONS: &[(&str, &str, Rights, About)] = {
    use About::{Device, Event, Task, Whole};
    const TWIN: Rights = Rights(Rights::DEVICES_WRITE.0 | Rights::TASKS_WRITE.0);
    const ALL_AUDIT: Rights = Rights(Rights::AUDIT_READ.0 | Rights::ORGS_ADMIN.0);
    &[
        ("GET", "/api-keys", Rights::KEYS_WRITE, Whole),
        ("POST", "/api-keys", Rights::KEYS_WRITE, Whole),
        ("DELETE", "/api-keys/{id}", Rights::KEYS_WRITE, Whole),
        ("GET", "/api-keys/{id}/limits", Rights::KEYS_WRITE, Whole),
        ("PUT", "/api-keys/{id}/limits", Rights::KEYS_WRITE, Whole),
        ("GET", "/audit", Rights::AUDIT_READ, Whole),
        ("GET", "/audit/chains", ALL_AUDIT, Whole),
        ("GET", "/audit/rows", ALL_AUDIT, Whole),
        ("GET", "/certificates", Rights::DEVICES_READ, Device),
        ("GET", "/certificates/{serial}", Rights::DEVICES_READ, Device),
        ("POST", "/certificates/{serial}/revoke", Rights::DEVICES_WRITE, Device),
        ("GET", "/claims", Rights::DEVICES_READ, Whole),
        ("POST", "/claims", Rights::DEVICES_WRITE, Whole),
        ("GET", "/claims/{id}", Rights::DEVICES_READ, Whole),
        ("DELETE", "/claims/{id}", Rights::DEVICES_WRITE, Whole),
        ("POST", "/claims/{id}/release", Rights::DEVICES_WRITE, Whole),
        ("GET", "/claims/{id}/serials", Rights::DEVICES_READ, Whole),
        ("POST", "/claims/{id}/serials", Rights::DEVICES_WRITE, Whole),
        ("GET", "/device-events", Rights::EVENTS_READ, Event),
        ("GET", "/device-events/fields", Rights::EVENTS_READ, Event),
        ("GET", "/device-events/incremental", Rights::EVENTS_READ, Event),
        ("GET", "/device-events/series", Rights::EVENTS_READ, Event),
        ("GET", "/device-tasks", Rights::TASKS_READ, Task),
        ("POST", "/device-tasks", Rights::TASKS_WRITE, Task),
        ("GET", "/device-tasks/{id}", Rights::TASKS_READ, Task),
        ("DELETE", "/device-tasks/{id}", Rights::TASKS_WRITE, Task),
        ("GET", "/devices", Rights::DEVICES_READ, Device),
        ("POST", "/devices", Rights::DEVICES_WRITE, Device),
        ("GET", "/devices/{device_id}", Rights::DEVICES_READ, Device),
        ("PUT", "/devices/{device_id}", Rights::DEVICES_WRITE, Device),
        ("DELETE", "/devices/{device_id}", Rights::DEVICES_WRITE, Device),
        ("POST", "/devices/{device_id}/revoke", Rights::DEVICES_WRITE, Device),
        ("GET", "/devices/{device_id}/twin", Rights::DEVICES_READ, Device),
        ("PATCH", "/devices/{device_id}/twin", TWIN, Task),
        ("GET", "/devices/{device_id}/twin/history", Rights::DEVICES_READ, Device),
        ("GET", "/gauges", Rights::EVENTS_READ, Event),
        ("GET", "/health/findings", Rights::METRICS_READ, Whole),
        ("GET", "/nodes", Rights::DEVICES_READ, Device),
        ("POST", "/nodes", Rights::DEVICES_WRITE, Whole),
        ("DELETE", "/nodes/{id}", Rights::DEVICES_WRITE, Device),
        ("POST", "/nodes/{id}/approve", Rights::DEVICES_WRITE, Whole),
        ("POST", "/nodes/{id}/block", Rights::DEVICES_WRITE, Device),
        ("POST", "/nodes/{id}/rename", Rights::DEVICES_WRITE, Device),
        ("GET", "/orgs", Rights::KEYS_WRITE, Whole),
        ("POST", "/orgs", Rights::ORGS_ADMIN, Whole),
        ("GET", "/orgs/{org_id}", Rights::KEYS_WRITE, Whole),
        ("PATCH", "/orgs/{org_id}", Rights::ALL_KEYS_WRITE, Whole),
        ("GET", "/orgs/{org_id}/limits", Rights::KEYS_WRITE, Whole),
        ("PUT", "/orgs/{org_id}/limits", Rights::ORGS_ADMIN, Whole),
        ("GET", "/retention", Rights::KEYS_WRITE, Whole),
        ("PUT", "/retention", Rights::KEYS_WRITE, Whole),
        ("POST", "/retention/run", Rights::KEYS_WRITE, Whole),
        ("GET", "/sessions", Rights::KEYS_WRITE, Whole),
        ("DELETE", "/sessions/{id}", Rights::KEYS_WRITE, Whole),
        ("GET", "/stream", Rights::EVENTS_READ, Event),
        ("GET", "/units", Rights::GATEWAYS_READ, Whole),
        ("POST", "/units", Rights::GATEWAYS_WRITE, Whole),
        ("PUT", "/units/{id}", Rights::GATEWAYS_WRITE, Whole),
        ("DELETE", "/units/{id}", Rights::GATEWAYS_WRITE, Whole),
        ("GET", "/usage", Rights::AUDIT_READ, Whole),
        ("GET", "/users", Rights::KEYS_WRITE, Whole),
        ("POST", "/users", Rights::KEYS_WRITE, Whole),
        ("GET", "/users/{id}", Rights::KEYS_WRITE, Whole),
        ("PATCH", "/users/{id}", Rights::KEYS_WRITE, Whole),
        ("DELETE", "/users/{id}", Rights::KEYS_WRITE, Whole),
        ("POST", "/users/{id}/link", Rights::KEYS_WRITE, Whole),
        ("GET", "/webhooks", Rights::WEBHOOKS_WRITE, Whole),
        ("POST", "/webhooks", Rights::WEBHOOKS_WRITE, Whole),
        ("GET", "/webhooks/{key}", Rights::WEBHOOKS_WRITE, Whole),
        ("PUT", "/webhooks/{key}", Rights::WEBHOOKS_WRITE, Whole),
        ("DELETE", "/webhooks/{key}", Rights::WEBHOOKS_WRITE, Whole),
        ("PATCH", "/webhooks/{key}", Rights::WEBHOOKS_WRITE, Whole),
        ("GET", "/webhooks/{key}/dead-letters", Rights::WEBHOOKS_WRITE, Whole),
        ("POST", "/webhooks/{key}/dead-letters/resend", Rights::WEBHOOKS_WRITE, Whole),
        ("GET", "/webhooks/{key}/dead-letters/{number}", Rights::WEBHOOKS_WRITE, Whole),
        ("POST", "/webhooks/{key}/dead-letters/{number}/resend", Rights::WEBHOOKS_WRITE, Whole),
        ("GET", "/webhooks/{key}/deliveries", Rights::WEBHOOKS_WRITE, Whole),
        ("POST", "/webhooks/{key}/rotate-secret", Rights::WEBHOOKS_WRITE, Whole),
        ("POST", "/webhooks/{key}/test", Rights::WEBHOOKS_WRITE, Whole),
    ]
};

/// The route of explanations.
pub(crate) fn router() -> OpenApiRouter<Arc<Api>> {
    with_slash([routes!(access_explain)])
}

/// What is asked about.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ExplainQuery {
    /// The operation: its method and its path, with or without /api/v1, with names or values in the places of parameters.
    #[param(example = "POST /device-tasks", pattern = r"^[A-Z]+ /.*$")]
    operation: String,
    /// The number of the key that would ask; that of this request if left out. One of somebody else takes keys:write.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false)]
    key_id: Option<Whole>,
    /// The device that it would be about.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    device_id: Option<DeviceNumber>,
    /// Of a task, the number of its method.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 65534, default = 20)]
    method_code: Option<Whole>,
    /// Of a task, the name of its method.
    #[serde(default)]
    #[param(nullable = false)]
    method: Option<String>,
    /// Of an event, its type.
    #[serde(default, deserialize_with = "from_text")]
    #[param(value_type = i64, required = false, minimum = 0, maximum = 2147483647)]
    event_type_code: Option<Whole>,
}

/// Why somebody may do something, or may not: by which right or grant, or what it lacks
///
/// Asked about a device, it takes devices:read for that one. A task without `method_code` and `method` is one of method 20.
#[utoipa::path(
    get, path = "/api/v1/access/explain", tag = "api keys",
    params(ExplainQuery),
    responses(
        (status = 200, description = "What would come of it.", body = AccessExplanation),
        InvalidProblem, NotFoundProblem, GuardProblems,
    )
)]
async fn access_explain(asked: Asked, Parameters(query): Parameters<ExplainQuery>) -> Answer {
    let unknown = || Problem::invalid("operation", "must be one of the API, such as POST /device-tasks");
    let (method, path) = query.operation.split_once(' ').ok_or_else(unknown)?;
    let path = path.strip_prefix("/api/v1").unwrap_or(path).trim_end_matches('/');
    let found = OPERATIONS.iter().find(|(known, template, ..)| *known == method && is_like(template, path));
    let (_, template, rights, about) = found.ok_or_else(unknown)?;
    let code = query.method_code.map_or(Ok(20), |Whole(code)| u16::try_from(code));
    let code = code.ok().filter(|code| *code <= 65_534);
    let code = code.ok_or_else(|| Problem::invalid("method_code", "must be 0 to 65534"))?;
    let twin = template.ends_with("/twin").then_some("twin.set");
    let matters = match about {
        About::Whole | About::Device => vec![Matter::Device],
        About::Task => vec![Matter::Task { code, name: query.method.as_deref().or(twin) }],
        About::Event => match query.event_type_code {
            Some(Whole(code)) => vec![Matter::event(code)],
            None => {
                let of = |kind| Matter::Data { kind, event_type: None, method: None };
                RecordKind::ALL.into_iter().map(of).collect()
            }
        },
    };
    let device = query.device_id.map(|DeviceNumber(id)| TagsOf::Id(id));
    let question = Question { rights: *rights, device, matters, is_grantable: *about != About::Whole };
    let explained = asked.engine().access_explain(query.key_id.map(|Whole(id)| id), question).await?;
    Ok(json(StatusCode::OK, &AccessExplanation::of(&explained, method, template)))
}

/// Whether a path is one of a template: what stands in braces there may be anything.
fn is_like(template: &str, path: &str) -> bool {
    let (mut wanted, mut found) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(wanted), Some(found))
                if wanted == found || (wanted.starts_with('{') && !found.is_empty()) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_like_its_template_with_names_and_with_values() {
        for (path, is) in [
            ("/devices/{device_id}/twin", true),
            ("/devices/7/twin", true),
            ("/devices//twin", false),
            ("/devices/7", false),
            ("/devices/7/twin/x", false),
        ] {
            assert_eq!(is_like("/devices/{device_id}/twin", path), is, "{path}");
        }
    }
}
