//! The grants of an API key, as JSON text.

use covey_core::access::{Grant, Grants, Method, Rights};
use covey_core::device::Tag;
use covey_core::record::RecordKind;
use serde_json::{Value, json};

/// Grants as they are stored; none if there are none.
pub(crate) fn grants_text(grants: &Grants) -> Option<String> {
    let text = |grant: &Grant| {
        let tags: Vec<_> = grant.tags.iter().map(|tag| json!([tag.tag, tag.value])).collect();
        let methods: Vec<_> = grant
            .methods
            .iter()
            .map(|method| match method {
                Method::Code(code) => json!(code),
                Method::Name(name) => json!(name),
            })
            .collect();
        let kinds: Vec<_> = grant.kinds.iter().map(|kind| kind.name()).collect();
        json!([grant.rights.0, tags, methods, kinds, grant.event_types])
    };
    let list = grants.list();
    (!list.is_empty()).then(|| Value::Array(list.iter().map(text).collect()).to_string())
}

/// Grants out of such a text. One that cannot be read, such as that of a newer server, gives nothing: the key is there, and
/// others are not kept from being read with it.
pub(crate) fn grants(text: Option<&str>) -> Grants {
    type Stored = (u32, Vec<(String, String)>, Vec<Value>, Vec<String>, Vec<i64>);
    let stored: Vec<Stored> = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let grant = |(rights, tags, methods, kinds, event_types): Stored| {
        let method = |method: Value| match method {
            Value::String(name) => Some(Method::Name(name)),
            other => other.as_u64().and_then(|code| u16::try_from(code).ok()).map(Method::Code),
        };
        Some(Grant {
            rights: Rights(rights),
            tags: tags.into_iter().map(|(tag, value)| Tag { tag, value }).collect(),
            methods: methods.into_iter().map(method).collect::<Option<_>>()?,
            kinds: kinds.iter().map(|name| RecordKind::from_name(name)).collect::<Option<_>>()?,
            event_types,
        })
    };
    let list: Option<Vec<Grant>> = stored.into_iter().map(grant).collect();
    list.and_then(|list| Grants::new(list).ok()).unwrap_or_default()
}
