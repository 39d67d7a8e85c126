//! What may be done with some devices, by some methods, or with some kinds of data alone. This is the one place where
//! that is decided: for what is stored, for what is listed, and for what is streamed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::access::Rights;
use crate::device::{Tag, TagPut};
use crate::error::{Error, Result};
use crate::event::EVENT_TYPE_CODE_MAX;
use crate::record::{Change, Record, RecordKind};
use crate::task::{METHOD_CHARS_MAX, METHOD_CODE_MAX, Task, TaskSpec};

/// How many grants a key may have.
/// Limit for each API key: 422.
pub const GRANTS_MAX: usize = 1_000;
/// How many tags, methods, kinds or types of events a grant may name, of each.
/// Limit for each grant: 422.
pub const GRANT_NAMES_MAX: usize = 64;
/// How many pairs of a tag with a method, or with a type of events, all grants of a key may come to.
/// Limit for each API key: 422.
pub const GRANT_PAIRS_MAX: usize = 10_000;

/// The rights that can be granted for some devices: the others are about no device.
pub const GRANTABLE: Rights = Rights(
    Rights::TASKS_READ.0
        | Rights::TASKS_WRITE.0
        | Rights::DEVICES_READ.0
        | Rights::DEVICES_WRITE.0
        | Rights::EVENTS_READ.0,
);

/// A method as a grant names it. A task with a name is known by that alone, whatever its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// That of tasks without a name.
    Code(u16),
    /// That of tasks with a name.
    Name(String),
}

/// Rights for some devices. What is empty bounds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// What may be done, of [`GRANTABLE`].
    pub rights: Rights,
    /// With devices that have one of these tags.
    pub tags: Vec<Tag>,
    /// Of tasks, with those of these methods.
    pub methods: Vec<Method>,
    /// Of what devices send and what becomes of tasks, with these kinds.
    pub kinds: Vec<RecordKind>,
    /// Of events, with these types; then no other kind, unless it is named.
    pub event_types: Vec<i64>,
}

/// What is asked about, beside the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter<'a> {
    /// The device itself.
    Device,
    /// A task for it.
    Task {
        /// The number of its method.
        code: u16,
        /// The name of its method.
        name: Option<&'a str>,
    },
    /// What it sent, or what became of a task: of this kind, with the type of an event and the method of a task.
    Data {
        /// Of which kind.
        kind: RecordKind,
        /// Of an event, of which type.
        event_type: Option<i64>,
        /// Of a task, its method: number and name.
        method: Option<(u16, Option<&'a str>)>,
    },
}

impl<'a> Matter<'a> {
    /// A task.
    #[must_use]
    pub fn of(task: &'a Task) -> Self {
        Self::Task { code: task.method_code, name: task.method.as_deref() }
    }

    /// A task that is asked for.
    #[must_use]
    pub fn asked(spec: &'a TaskSpec) -> Self {
        // A number out of range is that of no grant.
        Self::Task { code: u16::try_from(spec.method_code).unwrap_or(u16::MAX), name: spec.method.as_deref() }
    }

    /// An event of a type; coming and going are stored as events below 0.
    #[must_use]
    pub const fn event(type_code: i64) -> Self {
        let kind = if type_code < 0 { RecordKind::Presence } else { RecordKind::Event };
        Self::Data { kind, event_type: Some(type_code), method: None }
    }
}

impl<'a> From<&'a Record> for Matter<'a> {
    fn from(record: &'a Record) -> Self {
        let kind = record.change.kind();
        let (event_type, method) = match &record.change {
            Change::Task { task, .. } | Change::Result { task, .. } => {
                (None, Some((task.method_code, task.method.as_deref())))
            }
            Change::Event(event) => (Some(event.type_code), None),
            Change::Presence { .. } | Change::Twin(_) => (None, None),
        };
        Self::Data { kind, event_type, method }
    }
}

impl fmt::Display for Grant {
    /// In few words, as the audit log tells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights: Vec<_> = self.rights.names().collect();
        write!(f, "{}", rights.join(", "))?;
        let tags = self.tags.iter().map(|tag| format!("{}={}", tag.tag, tag.value)).collect();
        let method = |method: &Method| match method {
            Method::Code(code) => code.to_string(),
            Method::Name(name) => name.clone(),
        };
        let methods = self.methods.iter().map(method).collect();
        let kinds = self.kinds.iter().map(|kind| kind.name().to_owned()).collect();
        let types = self.event_types.iter().map(ToString::to_string).collect();
        let bounds: [(&str, Vec<String>); 4] =
            [("tags", tags), ("methods", methods), ("kinds", kinds), ("event types", types)];
        for (what, names) in bounds.iter().filter(|(_, names)| !names.is_empty()) {
            write!(f, " {what} {}", names.join(" "))?;
        }
        Ok(())
    }
}

impl Grant {
    fn has_method(&self, code: u16, name: Option<&str>) -> bool {
        self.methods.is_empty()
            || self.methods.iter().any(|method| match (method, name) {
                (Method::Name(own), Some(name)) => own == name,
                (Method::Code(own), None) => *own == code,
                _ => false,
            })
    }

    fn has_kind(&self, kind: RecordKind) -> bool {
        match self.kinds.is_empty() {
            true => self.event_types.is_empty() || kind == RecordKind::Event,
            false => self.kinds.contains(&kind),
        }
    }

    /// Whether it is about this, of a device with one of its tags.
    fn covers(&self, matter: Matter<'_>) -> bool {
        match matter {
            Matter::Device => true,
            Matter::Task { code, name } => self.has_method(code, name),
            Matter::Data { kind, event_type, method } => {
                let is_of_type = kind != RecordKind::Event
                    || self.event_types.is_empty()
                    || event_type.is_some_and(|code| self.event_types.contains(&code));
                self.has_kind(kind)
                    && is_of_type
                    && method.is_none_or(|(code, name)| self.has_method(code, name))
            }
        }
    }

    /// Whether whoever has this one may give that one away.
    fn contains(&self, wanted: &Self) -> bool {
        fn within<T: PartialEq>(own: &[T], wanted: &[T]) -> bool {
            own.is_empty() || (!wanted.is_empty() && wanted.iter().all(|one| own.contains(one)))
        }
        self.rights.contains(wanted.rights)
            && within(&self.tags, &wanted.tags)
            && within(&self.methods, &wanted.methods)
            && within(&self.event_types, &wanted.event_types)
            && RecordKind::ALL.into_iter().all(|kind| self.has_kind(kind) || !wanted.has_kind(kind))
    }

    fn validate(&self) -> Result<()> {
        let refused = |problem| Err(Error::invalid("grants", problem));
        if self.rights == Rights::default() || !GRANTABLE.contains(self.rights) {
            return refused(
                "must each give some of tasks:read, tasks:write, devices:read, devices:write, events:read; other rights are \
                 about no device, so they stand in rights",
            );
        }
        let lengths = [self.tags.len(), self.methods.len(), self.kinds.len(), self.event_types.len()];
        if lengths.into_iter().any(|length| length > GRANT_NAMES_MAX) {
            return refused("may each name up to 64 tags, methods, kinds and types of events");
        }
        let [tags, methods, kinds, types] = lengths.map(|length| length > 0);
        let has_any = |rights: [Rights; 2]| rights.into_iter().any(|right| self.rights.contains(right));
        let is_open = (has_any([Rights::DEVICES_READ, Rights::DEVICES_WRITE]) && !tags)
            || (has_any([Rights::TASKS_READ, Rights::TASKS_WRITE]) && !(tags || methods))
            || !(tags || methods || kinds || types);
        if is_open {
            return refused(
                "must each be bounded: devices:read and devices:write by tags, tasks:read and tasks:write by tags or methods, \
                 events:read by any of what a grant names; what is not stands in rights",
            );
        }
        if !self.tags.iter().all(|tag| TagPut::validate(tag).is_ok()) {
            return refused("must name tags as devices can have them");
        }
        let is_method = |method: &Method| match method {
            Method::Code(code) => i64::from(*code) <= METHOD_CODE_MAX,
            Method::Name(name) => {
                (1..=METHOD_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control)
            }
        };
        if !self.methods.iter().all(is_method) {
            return refused(
                "methods must be numbers of 0 to 65534, or names of 1 to 128 characters without control characters",
            );
        }
        if self.event_types.iter().any(|code| !(0..=EVENT_TYPE_CODE_MAX).contains(code)) {
            return refused("types of events must be 0 to 2147483647");
        }
        Ok(())
    }

    /// How many pairs it comes to at most.
    fn pairs(&self) -> usize {
        let others = self.methods.len().max(self.event_types.len() + 1).max(1);
        self.tags.len().max(1) * others
    }
}

/// Where somebody has a right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the whole organisation.
    Everywhere,
    /// Where one of these holds.
    Within(Vec<Place>),
}

/// A condition; what is not there bounds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The device has this tag.
    pub tag: Option<Tag>,
    /// The task has this method.
    pub method: Option<Method>,
    /// The event has a type of this range.
    pub event_types: Option<(i64, i64)>,
}

/// Which list a scope is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeOf {
    /// Devices.
    Devices,
    /// Tasks.
    Tasks,
    /// Events, and what they are told as.
    Events,
}

/// The grants of a caller, ready to decide.
#[derive(Clone, Debug, Default)]
pub struct Grants(Option<Arc<Compiled>>);

#[derive(Debug)]
struct Compiled {
    list: Vec<Grant>,
    rights: Rights,
    /// The places of those that name a tag.
    by_tag: HashMap<Tag, Vec<usize>>,
    /// The places of those that name none.
    of_every_device: Vec<usize>,
}

impl PartialEq for Grants {
    fn eq(&self, other: &Self) -> bool {
        self.list() == other.list()
    }
}

impl Eq for Grants {}

impl Grants {
    /// Makes grants ready to decide.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `grants`.
    pub fn new(list: Vec<Grant>) -> Result<Self> {
        if list.is_empty() {
            return Ok(Self::default());
        }
        if list.len() > GRANTS_MAX {
            return Err(Error::invalid("grants", "must be at most 1000"));
        }
        list.iter().try_for_each(Grant::validate)?;
        if list.iter().map(Grant::pairs).sum::<usize>() > GRANT_PAIRS_MAX {
            let problem = "come to more than 10000 pairs of a tag with a method or a type of events";
            return Err(Error::invalid("grants", problem));
        }
        let mut by_tag: HashMap<Tag, Vec<usize>> = HashMap::new();
        let mut of_every_device = Vec::new();
        for (place, grant) in list.iter().enumerate() {
            grant.tags.iter().for_each(|tag| by_tag.entry(tag.clone()).or_default().push(place));
            if grant.tags.is_empty() {
                of_every_device.push(place);
            }
        }
        let rights = Rights(list.iter().fold(0, |rights, grant| rights | grant.rights.0));
        Ok(Self(Some(Arc::new(Compiled { list, rights, by_tag, of_every_device }))))
    }

    /// The grants.
    #[must_use]
    pub fn list(&self) -> &[Grant] {
        self.0.as_deref().map_or(&[], |compiled| &compiled.list)
    }

    /// What they give somewhere.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.0.as_deref().map_or(Rights::default(), |compiled| compiled.rights)
    }

    /// The first grant that gives a right on this, for a device with these tags.
    #[must_use]
    pub fn giving(&self, right: Rights, tags: &[Tag], matter: Matter<'_>) -> Option<&Grant> {
        let compiled = self.0.as_deref()?;
        let tagged = tags.iter().filter_map(|tag| compiled.by_tag.get(tag)).flatten();
        let mut places = compiled.of_every_device.iter().chain(tagged);
        let gives = |grant: &&Grant| grant.rights.contains(right) && grant.covers(matter);
        places.find_map(|place| compiled.list.get(*place).filter(gives))
    }

    /// Whether any grant names a tag of this name.
    #[must_use]
    pub fn names_tag(&self, name: &str) -> bool {
        self.list().iter().any(|grant| grant.tags.iter().any(|tag| tag.tag == name))
    }

    /// Whether whoever has these, beside the rights `own`, may give that grant away.
    pub(super) fn contains(&self, own: Rights, wanted: &Grant) -> bool {
        let missing = Rights(wanted.rights.0 & !own.0);
        let bits = (0..u32::BITS).map(|bit| Rights(1 << bit)).filter(|right| missing.contains(*right));
        bits.into_iter().all(|right| {
            let wanted = Grant { rights: right, ..wanted.clone() };
            self.list().iter().any(|grant| grant.contains(&wanted))
        })
    }

    /// Where they give a right.
    pub(super) fn scope(&self, right: Rights, of: ScopeOf) -> Scope {
        let giving = || self.list().iter().filter(|grant| grant.rights.contains(right));
        if of == ScopeOf::Devices && giving().any(|grant| grant.tags.is_empty()) {
            return Scope::Everywhere;
        }
        Scope::Within(giving().flat_map(|grant| grant.places(of)).collect())
    }
}

impl Grant {
    /// Where it holds.
    fn places(&self, of: ScopeOf) -> Vec<Place> {
        let bare = match of {
            ScopeOf::Devices => vec![Place::default()],
            ScopeOf::Tasks if self.methods.is_empty() => vec![Place::default()],
            ScopeOf::Tasks => {
                let place = |method: &Method| Place { method: Some(method.clone()), ..Place::default() };
                self.methods.iter().map(place).collect()
            }
            ScopeOf::Events => {
                let place = |range| Place { event_types: Some(range), ..Place::default() };
                let all = Place {
                    event_types: Some((-EVENT_TYPE_CODE_MAX, EVENT_TYPE_CODE_MAX)),
                    ..Place::default()
                };
                let has_both = self.has_kind(RecordKind::Event) && self.has_kind(RecordKind::Presence);
                if has_both && self.event_types.is_empty() {
                    return self.tagged(vec![all]);
                }
                let mut places = Vec::new();
                if self.has_kind(RecordKind::Event) {
                    match self.event_types.is_empty() {
                        true => places.push(place((0, EVENT_TYPE_CODE_MAX))),
                        false => places.extend(self.event_types.iter().map(|code| place((*code, *code)))),
                    }
                }
                if self.has_kind(RecordKind::Presence) {
                    places.push(place((-EVENT_TYPE_CODE_MAX, -1)));
                }
                places
            }
        };
        self.tagged(bare)
    }

    /// These places, for each of its tags.
    fn tagged(&self, bare: Vec<Place>) -> Vec<Place> {
        if self.tags.is_empty() {
            return bare;
        }
        let tagged = |tag: &Tag| {
            let place = |place: &Place| Place { tag: Some(tag.clone()), ..place.clone() };
            bare.iter().map(place).collect::<Vec<_>>()
        };
        self.tags.iter().flat_map(tagged).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn tag(tag: &str, value: &str) -> Tag {
        Tag { tag: tag.to_owned(), value: value.to_owned() }
    }

    fn berlin() -> Grant {
        Grant {
            rights: Rights::TASKS_WRITE,
            tags: vec![tag("site", "berlin"), tag("site", "bonn")],
            methods: vec![Method::Code(20), Method::Name("open".to_owned())],
            ..Grant::default()
        }
    }

    #[test]
    fn a_grant_holds_for_its_tags_and_methods_alone() {
        let grants = Grants::new(vec![berlin()]).unwrap();
        let there = [tag("floor", "2"), tag("site", "berlin")];
        let task = |code, name| Matter::Task { code, name };
        for (tags, matter, is_given) in [
            (&there[..], task(20, None), true),
            (&there, task(21, None), false),
            (&there, task(20, Some("open")), true),
            // The number says nothing of a task that has a name.
            (&there, task(20, Some("reboot")), false),
            (&[tag("site", "rome")], task(20, None), false),
            (&[], task(20, None), false),
        ] {
            assert_eq!(grants.giving(Rights::TASKS_WRITE, tags, matter).is_some(), is_given, "{matter:?}");
        }
        assert!(grants.giving(Rights::TASKS_READ, &there, task(20, None)).is_none());
    }

    #[test]
    fn a_grant_of_types_is_of_events_alone_unless_it_names_other_kinds() {
        let of = |kinds: &[RecordKind], types: &[i64]| Grant {
            rights: Rights::EVENTS_READ,
            kinds: kinds.to_vec(),
            event_types: types.to_vec(),
            ..Grant::default()
        };
        let covers =
            |grant: &Grant, kind, event_type| grant.covers(Matter::Data { kind, event_type, method: None });
        let typed = of(&[], &[44]);
        assert!(covers(&typed, RecordKind::Event, Some(44)) && !covers(&typed, RecordKind::Event, Some(45)));
        assert!(!covers(&typed, RecordKind::Presence, None) && !covers(&typed, RecordKind::Twin, None));
        let both = of(&[RecordKind::Event, RecordKind::Presence], &[44]);
        assert!(covers(&both, RecordKind::Presence, None) && !covers(&both, RecordKind::Event, Some(45)));
    }

    #[test]
    fn what_bounds_nothing_or_is_about_no_device_is_no_grant() {
        let unbound = Grant { rights: Rights::TASKS_READ, ..Grant::default() };
        let beside = [
            Grant { rights: Rights::DEVICES_WRITE, methods: vec![Method::Code(20)], ..Grant::default() },
            Grant { rights: Rights::TASKS_WRITE, kinds: vec![RecordKind::Event], ..Grant::default() },
        ];
        for bad in beside {
            assert!(Grants::new(vec![bad]).is_err(), "what it names does not bound the right");
        }
        let keys = Grant { rights: Rights::KEYS_WRITE, ..berlin() };
        let many = Grant { tags: vec![tag("a", "b"); GRANT_NAMES_MAX + 1], ..berlin() };
        let long = Grant { tags: vec![tag(&"t".repeat(crate::device::TAG_CHARS_MAX + 1), "")], ..berlin() };
        for bad in [unbound, keys, many, long, Grant { rights: Rights::default(), ..berlin() }] {
            assert!(Grants::new(vec![bad]).is_err());
        }
        assert!(Grants::new(vec![berlin(); GRANTS_MAX + 1]).is_err());
        assert!(Grants::new(vec![berlin(); GRANTS_MAX]).is_ok());
    }

    fn grants() -> impl Strategy<Value = Grant> {
        let tags = prop::collection::vec((0..2u8, 0..2u8), 0..3);
        let methods = prop::collection::vec((0..2u16, any::<bool>()), 0..3);
        let kinds = prop::sample::subsequence(RecordKind::ALL.to_vec(), 0..=2);
        let rights = prop::sample::subsequence(
            vec![Rights::TASKS_WRITE.0, Rights::TASKS_READ.0, Rights::EVENTS_READ.0],
            1..=3,
        );
        let types = prop::collection::vec(0..2i64, 0..3);
        (rights, tags, methods, kinds, types).prop_map(|(rights, tags, methods, kinds, event_types)| Grant {
            rights: Rights(rights.into_iter().fold(0, |all, one| all | one)),
            tags: tags.into_iter().map(|(name, value)| tag(&name.to_string(), &value.to_string())).collect(),
            methods: methods
                .into_iter()
                .map(
                    |(code, is_name)| {
                        if is_name { Method::Name(code.to_string()) } else { Method::Code(code) }
                    },
                )
                .collect(),
            kinds,
            event_types,
        })
    }

    /// A part of a grant.
    fn narrowed(own: &Grant, wanted: Grant) -> Grant {
        fn part<T: Clone>(own: &[T], wanted: Vec<T>) -> Vec<T> {
            own.first().map_or(wanted, |first| vec![first.clone()])
        }
        Grant {
            rights: Rights(own.rights.0 & wanted.rights.0),
            tags: part(&own.tags, wanted.tags),
            methods: part(&own.methods, wanted.methods),
            kinds: part(&own.kinds, wanted.kinds),
            event_types: part(&own.event_types, wanted.event_types),
        }
    }

    fn matters() -> impl Strategy<Value = (u8, u16, bool, i64)> {
        (0..6u8, 0..2u16, any::<bool>(), 0..2i64)
    }

    /// The matter that such numbers stand for, with the name of a method.
    fn matter((which, code, is_named, event_type): (u8, u16, bool, i64), name: &str) -> Matter<'_> {
        let name = is_named.then_some(name);
        match which.checked_sub(1).map(|kind| RecordKind::ALL[usize::from(kind)]) {
            None => Matter::Task { code, name },
            Some(kind @ (RecordKind::Task | RecordKind::Result)) => {
                Matter::Data { kind, event_type: None, method: Some((code, name)) }
            }
            Some(kind @ RecordKind::Event) => {
                Matter::Data { kind, event_type: Some(event_type), method: None }
            }
            Some(kind) => Matter::Data { kind, event_type: None, method: None },
        }
    }

    proptest! {
        #[test]
        fn nobody_gives_away_more_than_it_has(
            own in prop::collection::vec(grants(), 1..4), wanted in grants(), narrows in any::<bool>(), asked in matters(),
            tags in prop::collection::vec((0..2u8, 0..2u8), 0..3),
        ) {
            let wanted = if narrows { narrowed(&own[0], wanted) } else { wanted };
            let (Ok(own), Ok(given)) = (Grants::new(own), Grants::new(vec![wanted.clone()])) else {
                return Ok(());
            };
            if !own.contains(Rights::default(), &wanted) {
                return Ok(());
            }
            let tags: Vec<_> =
                tags.into_iter().map(|(name, value)| tag(&name.to_string(), &value.to_string())).collect();
            let name = asked.1.to_string();
            let matter = matter(asked, &name);
            for right in [Rights::TASKS_WRITE, Rights::TASKS_READ, Rights::EVENTS_READ] {
                if given.giving(right, &tags, matter).is_some() {
                    prop_assert!(own.giving(right, &tags, matter).is_some(), "{right:?} {tags:?} {matter:?}");
                }
            }
        }
    }
}
