//! Where a caller has a right, as conditions of lists.

use covey_core::access::{Caller, Method, Place, Rights, Scope, ScopeOf};
use serde_json::{Value, json};

/// What differs between the databases.
#[derive(Clone, Copy)]
pub(crate) struct Dialect {
    /// The entries of a JSON array, as rows `s` with a column `value`; `#` stands for the array.
    pub(crate) entries: &'static str,
    /// By what an index finds the tags `k` that have the value of such an entry.
    pub(crate) value_is: &'static str,
}

/// The columns of a list that its scope is about.
#[derive(Clone, Copy)]
pub(crate) struct ListColumns {
    /// The device.
    pub(crate) device: &'static str,
    /// What else is bounded.
    pub(crate) rest: Rest,
}

/// What is bounded beside the device.
#[derive(Clone, Copy)]
pub(crate) enum Rest {
    /// Nothing.
    None,
    /// The method of a task `t`.
    Method,
    /// The type of an event, in this column.
    Type(&'static str),
}

impl ListColumns {
    /// Those of devices `d`.
    pub(crate) const DEVICES: Self = Self { device: "d.id", rest: Rest::None };
    /// Those of nodes `n`.
    pub(crate) const NODES: Self = Self { device: "n.device_key", rest: Rest::None };
    /// Those of tasks `t`.
    pub(crate) const TASKS: Self = Self { device: "t.device_key", rest: Rest::Method };
    /// Those of events `e`.
    pub(crate) const EVENTS: Self = Self { device: "e.device_key", rest: Rest::Type("e.type_code") };
    /// Those of gauges `g`.
    pub(crate) const GAUGES: Self = Self { device: "g.device_key", rest: Rest::Type("g.type_code") };

    fn of(self) -> (Rights, ScopeOf) {
        match self.rest {
            Rest::None => (Rights::DEVICES_READ, ScopeOf::Devices),
            Rest::Method => (Rights::TASKS_READ, ScopeOf::Tasks),
            Rest::Type(_) => (Rights::EVENTS_READ, ScopeOf::Events),
        }
    }
}

/// The scope of a caller over a list, ready to become conditions.
#[derive(Clone)]
pub(crate) struct ListScope {
    columns: ListColumns,
    org: i64,
    places: Vec<Place>,
}

impl ListScope {
    /// That of a caller; none where it may see the whole list.
    pub(crate) fn of(caller: &Caller, columns: ListColumns) -> Option<Self> {
        let (right, of) = columns.of();
        match caller.scope(right, of) {
            Scope::Everywhere => None,
            Scope::Within(places) => Some(Self { columns, org: caller.org.0, places }),
        }
    }

    /// The places as a JSON array: of each tag, value, and two bounds of the rest; null bounds nothing.
    pub(crate) fn json(&self) -> String {
        let entry = |place: &Place| {
            let (tag, value) = match &place.tag {
                Some(tag) => (json!(tag.tag), json!(tag.value)),
                None => (Value::Null, Value::Null),
            };
            let (first, second) = match (&place.method, place.event_types) {
                (Some(Method::Code(code)), _) => (json!(code), Value::Null),
                (Some(Method::Name(name)), _) => (Value::Null, json!(name)),
                (None, Some((least, most))) => (json!(least), json!(most)),
                (None, None) => (Value::Null, Value::Null),
            };
            json!([tag, value, first, second])
        };
        Value::Array(self.places.iter().map(entry).collect()).to_string()
    }

    /// Conditions with one `#` each, for [`json`](Self::json).
    pub(crate) fn conditions(&self, dialect: Dialect) -> Vec<String> {
        let Dialect { entries, value_is } = dialect;
        let (device, org) = (self.columns.device, self.org);
        let mut conditions = Vec::new();
        let has_tag = format!("k.tag = s.value ->> 0 AND {value_is}");
        if self.places.iter().all(|place| place.tag.is_some()) {
            // Found once, by the index of tags.
            conditions.push(format!(
                "{device} IN (SELECT k.device_key FROM {entries} JOIN device_tags k ON k.org_id = {org} AND {has_tag})"
            ));
        }
        let is_bound = |place: &Place| place.method.is_some() || place.event_types.is_some();
        if self.places.iter().any(|place| place.tag.is_none() || is_bound(place)) {
            let rest = match self.columns.rest {
                Rest::None => "true".to_owned(),
                Rest::Method => "(s.value ->> 2 IS NULL OR (t.method IS NULL AND t.method_code = \
                     CAST(s.value ->> 2 AS INTEGER))) AND (s.value ->> 3 IS NULL OR t.method = s.value ->> 3)"
                    .to_owned(),
                Rest::Type(column) => format!(
                    "{column} BETWEEN CAST(s.value ->> 2 AS INTEGER) AND CAST(s.value ->> 3 AS INTEGER)"
                ),
            };
            conditions.push(format!(
                "EXISTS (SELECT 1 FROM {entries} WHERE {rest} AND (s.value ->> 0 IS NULL OR EXISTS \
                 (SELECT 1 FROM device_tags k WHERE k.device_key = {device} AND {has_tag})))"
            ));
        }
        conditions
    }
}
