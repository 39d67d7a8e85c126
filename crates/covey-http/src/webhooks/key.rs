//! How a path names a webhook: by a type, or by its number; and a dead letter.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use covey_core::id::RecordNumber;
use covey_core::webhook::{EndpointId, EndpointRef, WebhookType};
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

use crate::problem::{Kind, Problem};
use crate::wire::Whole;

/// Which webhook is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WebhookKey(pub(super) EndpointRef);

impl FromStr for WebhookKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(webhook_type) = WebhookType::from_name(text) {
            return Ok(Self(EndpointRef::Default(webhook_type)));
        }
        let number = text.parse::<i64>().ok().filter(|number| *number > 0);
        number.map(|number| Self(EndpointRef::Id(EndpointId(number)))).ok_or(
            "must be msg-event, msg-task-result, msg-task, msg-presence, msg-twin, or the number of a webhook",
        )
    }
}

impl IntoParams for WebhookKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let types = WebhookType::NAMES.map(|(_, name)| name).join("|");
        let schema = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .pattern(Some(format!("^({types}|[1-9][0-9]{{0,17}})$")));
        let parameter = ParameterBuilder::new()
            .name("key")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("A type, for its default webhook, or the number of a webhook."))
            .schema(Some(schema));
        vec![parameter.build()]
    }
}

/// A dead letter of a webhook, by both parameters of the path.
pub(super) struct DeadLetterKey(pub(super) EndpointRef, pub(super) RecordNumber);

impl<S: Send + Sync> FromRequestParts<S> for DeadLetterKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let unreadable = |_| Problem::new(Kind::Invalid, "the path is not UTF-8");
        let Path((key, number)) =
            Path::<(String, String)>::from_request_parts(parts, state).await.map_err(unreadable)?;
        let WebhookKey(wanted) = key.parse().map_err(|error| Problem::invalid("key", error))?;
        let Whole(number) = number.parse().map_err(|error| Problem::invalid("number", error))?;
        Ok(Self(wanted, RecordNumber(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_named_by_its_type_or_its_number() {
        assert_eq!("msg-event".parse(), Ok(WebhookKey(EndpointRef::Default(WebhookType::Event))));
        assert_eq!("17".parse(), Ok(WebhookKey(EndpointRef::Id(EndpointId(17)))));
        for wrong in ["", "msg-", "MSG-EVENT", "0", "-1", "1.5", "99999999999999999999"] {
            assert!(wrong.parse::<WebhookKey>().is_err(), "{wrong}");
        }
    }
}
