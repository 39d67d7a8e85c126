//! What may be done with some devices alone.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::DeviceTag;

/// The members of a grant.
const MEMBERS: [&str; 5] = ["rights", "tags", "methods", "kinds", "event_types"];

/// A method of tasks: a number for those of tasks without a name, a name for the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GrantMethod {
    /// The number of the method of tasks that name none.
    Code(u16),
    /// The name of a method. A task that names its method is known by that, whatever its number.
    Name(String),
}

/// Rights for some devices, methods or kinds of data. What is left out bounds nothing; one at least bounds something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Grant {
    /// What may be done: some of tasks:read, tasks:write, devices:read, devices:write and events:read.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::GrantableRightName>, min_items = 1))]
    pub rights: Vec<String>,
    /// With devices that have one of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub tags: Vec<DeviceTag<'static>>,
    /// Of tasks, with those of these methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub methods: Vec<GrantMethod>,
    /// Of what is streamed and listed as events, with these kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::RecordKindName>, max_items = 64))]
    pub kinds: Vec<String>,
    /// Of events, with these types. Without `kinds` of events alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub event_types: Vec<i32>,
}

/// Grants by the names of their members, and in no other form: a bound that nobody knows would be no bound.
pub(crate) fn strictly<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Grant>, D::Error> {
    let listed = Vec::<Map<String, Value>>::deserialize(deserializer)?;
    let read =
        |members: Map<String, Value>| match members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
            Some(unknown) => Err(D::Error::unknown_field(unknown, &MEMBERS)),
            None => Grant::deserialize(Value::Object(members)).map_err(D::Error::custom),
        };
    listed.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_grant_is_read_by_the_names_that_it_knows_or_not_at_all() {
        let whole = Grant {
            rights: vec!["tasks:read".to_owned()],
            methods: vec![GrantMethod::Code(20)],
            kinds: vec!["event".to_owned()],
            event_types: vec![13],
            ..Grant::default()
        };
        let written = serde_json::to_value([&whole]).unwrap();
        assert_eq!(strictly(&written).unwrap(), [whole]);
        for wrong in [
            json!([{"rights": ["tasks:read"], "tags": [{"tag": "site"}], "method": [20]}]),
            json!([[["tasks:read"], [{"tag": "site"}]]]),
            json!({"rights": ["tasks:read"]}),
        ] {
            assert!(strictly(&wrong).is_err(), "{wrong}");
        }
    }
}
