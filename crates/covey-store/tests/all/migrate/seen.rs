//! Everything that can be seen of a site through the reads of its store.

use covey_core::audit::{AuditFilter, AuditRequest};
use covey_core::device::DeviceFilter;
use covey_core::event::{EventFilter, EventTypes, EventsFrom, GaugeFilter};
use covey_core::id::{CallerId, DeviceKey, OrgId, RecordNumber, UnixMs};
use covey_core::node::NodeFilter;
use covey_core::port::{PageRequest, Store};
use covey_core::record::RecordRequest;
use covey_core::task::{TaskFilter, TaskStatus};
use covey_core::unit::UnitFilter;
use futures_executor::block_on;

use super::fill::History;
use crate::world::parts::digest;

/// What each question was, and what was answered. `now` is when it is asked.
pub fn all(store: &dyn Store, history: &History, now: UnixMs) -> Vec<String> {
    let mut seen = Vec::new();
    let mut add =
        |question: String, answer: &dyn std::fmt::Debug| seen.push(format!("{question}: {answer:?}"));
    for org in 1..=3 {
        let caller = &crate::world::caller(OrgId(org), CallerId(1));
        for id in &history.tasks {
            add(format!("task {id} of {org}"), &block_on(store.task_get(caller, *id, None)).unwrap());
        }
        let begin = now.plus_ms(-600_000);
        let filters = [
            TaskFilter::default(),
            TaskFilter { ext_task_id: Some("Küche 1 – \u{1f4a1}".to_owned()), ..Default::default() },
            TaskFilter { created_after: Some(begin), created_before: Some(now), ..Default::default() },
        ];
        let by_status =
            TaskStatus::ALL.map(|status| TaskFilter { status: Some(status), ..Default::default() });
        let by_device = history
            .devices
            .iter()
            .map(|(_, device)| TaskFilter { device_id: Some(device.device_id), ..Default::default() });
        for filter in filters.into_iter().chain(by_status).chain(by_device) {
            for page in 1..=3 {
                let request = PageRequest { page, size: 37 };
                let answer = block_on(store.task_list(caller, filter.clone(), request)).unwrap();
                add(format!("page {page} of {filter:?} of {org}"), &answer);
            }
        }
        let everything = PageRequest { page: 1, size: 1_000 };
        for filter in [
            DeviceFilter::default(),
            DeviceFilter { online: Some(true), ..Default::default() },
            DeviceFilter { tag: Some(("tag 1 ä".to_owned(), None)), ..Default::default() },
            DeviceFilter { tag: Some(("tag 0 ".to_owned(), Some("plain".to_owned()))), ..Default::default() },
        ] {
            let answer = block_on(store.device_list(caller, filter.clone(), everything, usize::MAX)).unwrap();
            add(format!("devices {filter:?} of {org}"), &answer);
        }
        let filter = AuditFilter::default();
        let newest = AuditRequest { filter, before: None, size: 1_000 };
        add(format!("audit log of {org}"), &block_on(store.audit_list(caller, newest)).unwrap());
        let nodes = block_on(store.node_list(caller, NodeFilter::default(), everything)).unwrap();
        add(format!("nodes of {org}"), &nodes);
        let units = block_on(store.unit_list(caller, UnitFilter::default(), everything)).unwrap();
        add(format!("units of {org}"), &units);
        let page = EventsFrom::Page(everything);
        for include in [EventTypes::OfDevices, EventTypes::Any] {
            let filter = EventFilter { include, ..EventFilter::default() };
            let found = block_on(store.event_list(caller, filter.clone(), page)).unwrap();
            add(format!("events {filter:?} of {org}"), &found);
        }
        let after = store.event_list_after(caller, None, EventTypes::Any, RecordNumber(0), 1_000);
        add(format!("events after none of {org}"), &block_on(after).unwrap());
        add(
            format!("gauges of {org}"),
            &block_on(store.gauge_list(caller, GaugeFilter::default(), everything)).unwrap(),
        );
        for (_, device) in &history.devices {
            let twin = block_on(store.twin_get(caller, device.device_id)).unwrap();
            add(format!("twin of {} in {org}", device.sn), &twin);
            let before = store.twin_history(caller, device.device_id, "a".to_owned(), None, 1_000);
            add(format!("history of {} in {org}", device.sn), &block_on(before).unwrap());
        }
        add(format!("forgotten of {org}"), &block_on(store.record_span(caller)).unwrap().forgotten);
    }
    for with_tags in [false, true] {
        let request = RecordRequest {
            org: None,
            after: RecordNumber(0),
            until: None,
            limit: 100_000,
            bytes_max: usize::MAX,
            with_tags,
        };
        let mut records = block_on(store.record_list_of_every_org(request)).unwrap().records;
        for record in &mut records {
            // Tags are a set.
            if let Some(tags) = &mut record.device.tags {
                let mut sorted = tags.to_vec();
                sorted.sort_by(|one, other| one.tag.cmp(&other.tag));
                *tags = sorted.into();
            }
        }
        add(format!("records {with_tags}"), &records);
    }
    add("forgotten".to_owned(), &block_on(store.record_span_of_every_org()).unwrap().forgotten);
    let keys: Vec<_> = (1..=i64::try_from(history.serials.len()).unwrap()).map(DeviceKey).collect();
    for key in &keys {
        add(format!("for {key:?}"), &block_on(store.task_announceable(*key, now, 100)).unwrap());
    }
    add("waiting".to_owned(), &block_on(store.task_waiting_of_every_org(keys, now)).unwrap());
    add("final".to_owned(), &block_on(store.task_final_of_every_org(history.tasks.clone())).unwrap());
    add("lapsed".to_owned(), &block_on(store.task_lapsed_of_every_org((UnixMs(0), 0), now, 1_000)).unwrap());
    add("overdue".to_owned(), &block_on(store.task_overdue_of_every_org(now)).unwrap());
    add("sns".to_owned(), &block_on(store.device_sns_of_every_org(None, 1_000)).unwrap());
    add("online".to_owned(), &block_on(store.presence_online_of_every_org(DeviceKey(0), 1_000)).unwrap());
    for (sn, serial) in &history.serials {
        let device = block_on(store.device_of_certificate_of_every_org(sn.clone(), serial.clone())).unwrap();
        add(format!("certificate {serial} of {sn}"), &device);
        let session =
            block_on(store.session_of_certificate_of_every_org(sn.clone(), serial.clone())).unwrap();
        add(format!("session of {sn}"), &session);
        add(format!("sn {sn}"), &block_on(store.device_of_sn_of_every_org(sn.clone())).unwrap());
    }
    for key in &history.keys {
        add(format!("key {key}"), &block_on(store.api_key_of_every_org(digest(key))).unwrap());
    }
    let mut retention = block_on(store.retention_of_every_org()).unwrap();
    retention.sort_by_key(|own| (own.org, own.kept));
    add("retention".to_owned(), &retention);
    add("node counts".to_owned(), &block_on(store.node_counts_of_every_org()).unwrap());
    add("keys".to_owned(), &block_on(store.api_key_list_of_every_org()).unwrap());
    add("counts".to_owned(), &block_on(store.task_counts_of_every_org()).unwrap());
    seen.extend(super::hooks::seen(store));
    seen
}

/// Says where two differ without showing all of both.
pub fn assert_same(before: &[String], after: &[String]) {
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(after) {
        if before != after {
            let same = before.chars().zip(after.chars()).take_while(|(one, other)| one == other).count();
            let cut =
                |text: &str| text.chars().skip(same.saturating_sub(500)).take(1_000).collect::<String>();
            let question: String = before.chars().take(100).collect();
            panic!("{question}…\nbefore: …{}…\nafter:  …{}…", cut(before), cut(after));
        }
    }
}
