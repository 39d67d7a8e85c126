//! Nodes: who may join, what passing ones leave behind, what is reported of them and written into them.

use std::sync::Arc;

use covey_core::Error;
use covey_core::device::{CertificateSpec, DeviceFilter, DeviceIdentity, DeviceSpec};
use covey_core::error::Result;
use covey_core::event::Reported;
use covey_core::id::{NodeId, Sn, TaskId};
use covey_core::limits::Limits;
use covey_core::node::{
    ASKED_GRAIN_MS, Admission, Admitted, GatewayName, NODES_WAITING_MAX, Node, NodeAdmit, NodeFilter,
    NodeName, NodeState, NodeWrite,
};
use covey_core::port::PageRequest;
use covey_core::task::{Cause, ResultBody, Task, TaskSpec, TaskStatus};
use covey_core::twin::{DeviceReport, RESOURCES_MAX, TwinPatch, TwinResource};
use futures_executor::block_on;

use crate::world::steps::run;
use crate::world::{Backend, SERVER, World, connection, result, spec};

fn gateway(text: &str) -> GatewayName {
    GatewayName::parse(text).unwrap()
}

fn name(uid: &str) -> NodeName {
    NodeName::parse(gateway("coap"), uid).unwrap()
}

fn asked(world: &World, uid: &str, admission: Admission) -> NodeAdmit {
    NodeAdmit {
        org: world.org(0).org,
        name: name(uid),
        address: "192.0.2.7".to_owned(),
        is_passing: false,
        admission,
        server: SERVER.to_owned(),
    }
}

fn passing(world: &World, uid: &str, address: &str, admission: Admission) -> NodeAdmit {
    NodeAdmit { address: address.to_owned(), is_passing: true, ..asked(world, uid, admission) }
}

fn admit(world: &World, asked: NodeAdmit) -> Admitted {
    block_on(world.engine().server().node_admit(asked)).unwrap()
}

/// The device of a node that may join.
fn joined(world: &World, asked: NodeAdmit) -> DeviceIdentity {
    match admit(world, asked) {
        Admitted::Yes(device) => device,
        other => panic!("{other:?}"),
    }
}

fn nodes(world: &World, filter: NodeFilter) -> Vec<Node> {
    let page = PageRequest { page: 1, size: 1_000 };
    let found = block_on(world.engine().for_caller(world.org(0)).node_list(filter, page)).unwrap();
    assert_eq!(found.total, found.items.len() as u64);
    found.items
}

/// The only node of this uid.
fn node(world: &World, uid: &str) -> Node {
    let found = nodes(world, NodeFilter { uid: Some(uid.to_owned()), ..NodeFilter::default() });
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

fn approve(world: &World, id: NodeId) -> Result<Node> {
    block_on(world.engine().for_caller(world.org(0)).node_approve(id))
}

fn block(world: &World, id: NodeId) -> Node {
    block_on(world.engine().for_caller(world.org(0)).node_block(id)).unwrap()
}

fn remove(world: &World, id: NodeId) -> Result<Node> {
    block_on(world.engine().for_caller(world.org(0)).node_remove(id))
}

fn groups(world: &World) -> usize {
    world.settle();
    let groups = world.outside.counts.groups().len();
    world.outside.counts.reset();
    groups
}

pub fn whoever_comes_joins_where_that_is_open_and_is_known_by_a_read_then(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = joined(&world, asked(&world, "a/1", Admission::Open));
    assert_eq!(device.sn.as_str(), "coap-a_2f1");
    assert_eq!(joined(&world, asked(&world, "b", Admission::Open)).device_id.0, device.device_id.0 + 1);
    groups(&world);
    for admission in Admission::ALL {
        assert_eq!(joined(&world, asked(&world, "a/1", admission)), device);
    }
    assert_eq!(groups(&world), 1, "nothing but what the test waits for was written");
    world.restart();
    assert_eq!(joined(&world, asked(&world, "a/1", Admission::Known)), device);
    let listed = world.devices(0, DeviceFilter::default()).items;
    assert_eq!(listed[0].node, Some(name("a/1")));
    let found = node(&world, "a/1");
    assert_eq!((found.state, found.device.clone()), (NodeState::Admitted, Some(device.clone())));
    assert_eq!(
        (found.first_seen, found.last_asked, &*found.address),
        (world.now(), world.now(), "192.0.2.7")
    );
    // Where it is, is noted once a minute at most.
    let elsewhere = || NodeAdmit { address: "::7%eth0".to_owned(), ..asked(&world, "a/1", Admission::Open) };
    assert_eq!(joined(&world, elsewhere()), device);
    world.settle();
    assert_eq!(&*node(&world, "a/1").address, "192.0.2.7");
    world.pass_ms(ASKED_GRAIN_MS);
    assert_eq!(joined(&world, elsewhere()), device);
    world.settle();
    assert_eq!((&*node(&world, "a/1").address, node(&world, "a/1").last_asked), ("::7%eth0", world.now()));
    // Of another organisation nothing is known, but that the serial number is taken.
    let foreign = NodeAdmit { org: world.org(1).org, ..asked(&world, "a/1", Admission::Open) };
    assert_eq!(admit(&world, foreign), Admitted::SnTaken);
    let page = PageRequest { page: 1, size: 10 };
    let of_others = world.engine().for_caller(world.org(1)).node_list(NodeFilter::default(), page);
    assert_eq!(block_on(of_others).unwrap().items, []);
    for foreign in [
        block_on(world.engine().for_caller(world.org(1)).node_approve(found.id)).err(),
        block_on(world.engine().for_caller(world.org(1)).node_block(found.id)).err(),
        block_on(world.engine().for_caller(world.org(1)).node_remove(found.id)).err(),
        block_on(world.engine().for_caller(world.org(1)).node_rename(found.id, "x".to_owned())).err(),
    ] {
        assert_eq!(foreign, Some(Error::not_found("node")));
    }
}

pub fn a_newcomer_waits_until_somebody_says_yes_and_is_refused_after_a_no(backend: impl Backend) {
    let mut world = World::new(backend);
    assert_eq!(admit(&world, asked(&world, "a", Admission::Approve)), Admitted::Waiting);
    assert_eq!(admit(&world, asked(&world, "unlisted", Admission::Known)), Admitted::Unknown);
    let waiting = node(&world, "a");
    assert_eq!((waiting.state, waiting.device.clone()), (NodeState::Waiting, None));
    groups(&world);
    assert_eq!(admit(&world, asked(&world, "a", Admission::Approve)), Admitted::Waiting);
    assert_eq!(groups(&world), 1, "asked about once a minute at most");
    world.pass_ms(ASKED_GRAIN_MS);
    assert_eq!(admit(&world, asked(&world, "a", Admission::Approve)), Admitted::Waiting);
    world.settle();
    assert_eq!(node(&world, "a").last_asked, world.now());
    let approved = approve(&world, waiting.id).unwrap();
    assert_eq!(world.link.changed(), [(world.org(0).org, name("a"))], "gateways hear of it at once");
    let device = approved.device.clone().unwrap();
    assert_eq!((approved.state, device.sn.as_str()), (NodeState::Admitted, "coap-a"));
    assert_eq!(approve(&world, waiting.id).unwrap(), approved, "said again");
    assert_eq!(joined(&world, asked(&world, "a", Admission::Approve)), device);
    let renamed = |called: &str| {
        block_on(world.engine().for_caller(world.org(0)).node_rename(waiting.id, called.to_owned()))
    };
    renamed("window").unwrap();
    assert!(matches!(renamed(&"x".repeat(1025)), Err(Error::Invalid { field: "name", .. })));
    let tags = world.devices(0, DeviceFilter::default()).items.remove(0).tags;
    assert_eq!((tags[0].tag.as_str(), tags[0].value.as_str()), ("name", "window"));
    let blocked = block(&world, waiting.id);
    assert_eq!((blocked.state, blocked.device), (NodeState::Blocked, Some(device.clone())));
    assert_eq!(world.link.revoked(), std::slice::from_ref(&device.sn));
    world.restart();
    for admission in Admission::ALL {
        assert_eq!(admit(&world, asked(&world, "a", admission)), Admitted::Blocked);
    }
    approve(&world, waiting.id).unwrap();
    assert_eq!(joined(&world, asked(&world, "a", Admission::Approve)), device, "it is the same device");
    let removed = remove(&world, waiting.id).unwrap();
    assert_eq!(removed.device, Some(device.clone()));
    assert_eq!(remove(&world, waiting.id), Err(Error::not_found("node")));
    assert_eq!(world.link.revoked(), std::slice::from_ref(&device.sn));
    assert_eq!(world.devices(0, DeviceFilter::default()).items, []);
    assert_eq!(admit(&world, asked(&world, "a", Admission::Approve)), Admitted::Waiting, "as a stranger");
    let counts = block_on(world.engine().server().node_counts_of_every_org()).unwrap();
    assert_eq!(
        counts.iter().map(|one| (one.state, one.count)).collect::<Vec<_>>(),
        [(NodeState::Waiting, 1)]
    );
}

pub fn those_that_are_listed_or_registered_join_whoever_else_may(backend: impl Backend) {
    let world = World::new(backend);
    let caller = || world.engine().for_caller(world.org(0));
    let listed = block_on(caller().node_add(name("listed"))).unwrap();
    assert_eq!((listed.state, listed.device, listed.address.as_str()), (NodeState::Admitted, None, ""));
    assert!(matches!(block_on(caller().node_add(name("listed"))), Err(Error::Conflict { .. })));
    let early = block_on(caller().node_rename(listed.id, "x".to_owned()));
    assert!(matches!(early, Err(Error::Conflict { .. })), "{early:?}");
    let device = joined(&world, asked(&world, "listed", Admission::Known));
    assert_eq!(node(&world, "listed").device, Some(device));
    // What was registered without a certificate is the node's device.
    let register = |sn: &str, certificate| {
        let spec = DeviceSpec { sn: Some(Sn::parse(sn).unwrap()), certificate, ..DeviceSpec::default() };
        block_on(caller().device_register(spec)).unwrap().0.identity
    };
    let registered = register("coap-there", CertificateSpec::None);
    assert_eq!(joined(&world, asked(&world, "there", Admission::Known)), registered);
    assert_eq!(joined(&world, asked(&world, "there", Admission::Known)), registered);
    // One with a certificate speaks for itself.
    register("coap-own", CertificateSpec::WithKey);
    for admission in Admission::ALL {
        assert_eq!(admit(&world, asked(&world, "own", admission)), Admitted::SnTaken);
    }
    let own = block_on(caller().node_add(name("own"))).unwrap();
    assert_eq!(admit(&world, asked(&world, "own", Admission::Open)), Admitted::SnTaken);
    assert_eq!(approve(&world, own.id), Err(Error::SnTaken));
    // Who retires the device forgets the node.
    block_on(caller().device_retire(registered.device_id)).unwrap();
    assert_eq!(nodes(&world, NodeFilter { uid: Some("there".to_owned()), ..NodeFilter::default() }), []);
    assert_eq!(admit(&world, asked(&world, "there", Admission::Known)), Admitted::Unknown);
    let again = joined(&world, asked(&world, "there", Admission::Open));
    assert_ne!(again.device, registered.device);
    // Lists are filtered.
    let filtered = |filter| nodes(&world, filter).into_iter().map(|node| node.name.uid().to_owned());
    let admitted = NodeFilter { state: Some(NodeState::Admitted), ..NodeFilter::default() };
    assert_eq!(filtered(admitted).collect::<Vec<_>>(), ["listed", "own", "there"]);
    let of_id = NodeFilter { id: Some(own.id), ..NodeFilter::default() };
    assert_eq!(filtered(of_id).collect::<Vec<_>>(), ["own"]);
    let of_another = NodeFilter { gateway: Some(gateway("mqtt")), ..NodeFilter::default() };
    assert_eq!(filtered(of_another).count(), 0);
}

pub fn newcomers_that_wait_are_bounded_and_the_oldest_gives_way(backend: impl Backend) {
    let world = World::without_budgets(backend);
    for number in 0..NODES_WAITING_MAX {
        let asked = asked(&world, &format!("n{number}"), Admission::Approve);
        assert_eq!(admit(&world, asked), Admitted::Waiting);
        world.pass_ms(if number == 0 { ASKED_GRAIN_MS } else { 1 });
    }
    // The first one is asked about again, so the second has been waiting for longest.
    admit(&world, asked(&world, "n0", Admission::Approve));
    world.settle();
    assert_eq!(admit(&world, asked(&world, "one more", Admission::Approve)), Admitted::Waiting);
    let waiting = nodes(&world, NodeFilter { state: Some(NodeState::Waiting), ..NodeFilter::default() });
    assert_eq!(waiting.len(), NODES_WAITING_MAX as usize);
    let is_there = |uid: &str| waiting.iter().any(|node| node.name.uid() == uid);
    assert_eq!(
        (is_there("n0"), is_there("n1"), is_there("n2"), is_there("one more")),
        (true, false, true, true)
    );
    let other = NodeAdmit { org: world.org(1).org, ..asked(&world, "theirs", Admission::Approve) };
    assert_eq!(admit(&world, other), Admitted::Waiting, "another organisation has a bound of its own");
}

pub fn nodes_that_are_blocked_count_and_those_that_wait_do_not(backend: impl Backend) {
    let world = World::new(backend);
    let (org, other) = (world.org(0).org, world.org(1).org);
    let reaches = |org| run(&world, move |tx| (1..=4).map(|count| tx.nodes_reach(org, count)).collect());
    joined(&world, asked(&world, "admitted", Admission::Open));
    block_on(world.engine().for_caller(world.org(0)).node_add(name("listed"))).unwrap();
    for uid in ["blocked", "waiting", "waits too"] {
        assert_eq!(admit(&world, asked(&world, uid, Admission::Approve)), Admitted::Waiting);
    }
    let found: Vec<bool> = reaches(org);
    assert_eq!(found, [true, true, false, false]);
    block(&world, node(&world, "blocked").id);
    let found: Vec<bool> = reaches(org);
    assert_eq!(found, [true, true, true, false]);
    let found: Vec<bool> = reaches(other);
    assert_eq!(found, [false; 4]);
}

pub fn a_passing_node_is_a_device_as_long_as_it_is_there(backend: impl Backend) {
    let mut world = World::new(backend);
    let device = joined(&world, passing(&world, "u-1", "192.0.2.7", Admission::Open));
    assert_eq!(joined(&world, passing(&world, "u-1", "192.0.2.7", Admission::Open)), device, "asked again");
    assert!(node(&world, "u-1").is_passing);
    world.listen(&device);
    let (waiting, taken) = (world.create(spec(&device)), world.create(spec(&device)));
    let taken = world.request(&device, taken.id).unwrap();
    block_on(world.engine().server().node_leave(&device)).unwrap();
    for task in [waiting.id, taken.id] {
        let task = world.get(task).task;
        assert_eq!(
            (task.status, task.timeline.last().unwrap().cause),
            (TaskStatus::Failed, Cause::DeviceGone)
        );
        assert_eq!(task.lease_until, None);
    }
    assert_eq!(nodes(&world, NodeFilter::default()), []);
    assert_eq!(world.devices(0, DeviceFilter::default()).items, []);
    assert!(world.create_as(0, spec(&device)).is_err());
    block_on(world.engine().server().node_leave(&device)).unwrap();
    // Its address is what is approved.
    let strange = |uid: &str| passing(&world, uid, "::ffff:192.0.2.8", Admission::Approve);
    assert_eq!(admit(&world, strange("u-2")), Admitted::Waiting);
    assert_eq!(admit(&world, strange("u-3")), Admitted::Waiting);
    let address = node(&world, "@192.0.2.8");
    assert_eq!(nodes(&world, NodeFilter::default()).len(), 1);
    let approved = approve(&world, address.id).unwrap();
    assert_eq!((approved.state, approved.device), (NodeState::Admitted, None));
    let (second, third) = (joined(&world, strange("u-2")), joined(&world, strange("u-3")));
    assert_ne!(second, third);
    assert_eq!(admit(&world, passing(&world, "u-4", "192.0.2.9", Admission::Known)), Admitted::Unknown);
    // To block one of them blocks all that come from there.
    let blocked = block(&world, node(&world, "u-2").id);
    assert_eq!((blocked.name.uid(), blocked.state), ("@192.0.2.8", NodeState::Blocked));
    let mut put_out = world.link.revoked();
    put_out.sort();
    assert_eq!(put_out, [second.sn.clone(), third.sn.clone()]);
    assert_eq!(admit(&world, strange("u-2")), Admitted::Blocked);
    assert_eq!(admit(&world, passing(&world, "u-5", "192.0.2.8", Admission::Open)), Admitted::Blocked);
    // What a server has left behind when it was killed is retired when it starts again.
    let left: Vec<_> = (0..150)
        .map(|number| {
            joined(&world, passing(&world, &format!("left-{number}"), "192.0.2.7", Admission::Open))
        })
        .collect();
    let elsewhere = NodeAdmit {
        server: "server-2".to_owned(),
        ..passing(&world, "elsewhere", "192.0.2.7", Admission::Open)
    };
    let elsewhere = joined(&world, elsewhere);
    let task = world.create(spec(&left[149]));
    let stays = joined(&world, asked(&world, "stays", Admission::Open));
    world.restart();
    block_on(world.engine().server().nodes_passing_clear(SERVER)).unwrap();
    let numbers: Vec<_> =
        world.devices(0, DeviceFilter::default()).items.iter().map(|device| device.identity.device).collect();
    assert_eq!(numbers, [elsewhere.device, stays.device]);
    // One that is alone clears up after those that do not run, too.
    block_on(world.engine().server().nodes_passing_clear_all()).unwrap();
    let numbers: Vec<_> =
        world.devices(0, DeviceFilter::default()).items.iter().map(|device| device.identity.device).collect();
    assert_eq!(numbers, [stays.device]);
    assert_eq!(world.get(task.id).task.status, TaskStatus::Failed);
    // None but passing nodes go so.
    block_on(world.engine().server().node_leave(&stays)).unwrap();
    assert_eq!(joined(&world, asked(&world, "stays", Admission::Known)), stays);
    for refused in [
        passing(&world, "u-6", "somewhere", Admission::Open),
        NodeAdmit {
            name: NodeName::listed(gateway("ws"), "@::1").unwrap(),
            ..asked(&world, "x", Admission::Open)
        },
        NodeAdmit { address: "x".repeat(129), ..asked(&world, "x", Admission::Open) },
    ] {
        let refused = block_on(world.engine().server().node_admit(refused));
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
}

fn reported(values: &[(&str, &str)]) -> Vec<Reported> {
    let one = |(resource, value): &(&str, &str)| Reported {
        resource: (*resource).to_owned(),
        value: Arc::from(*value),
    };
    values.iter().map(one).collect()
}

pub fn values_are_reported_without_an_event_as_they_came(backend: impl Backend) {
    let world = World::without_budgets(backend);
    let device = joined(&world, asked(&world, "a", Admission::Open));
    let report =
        |values: &[(&str, &str)]| block_on(world.engine().for_device(&device).twin_report(reported(values)));
    let odd = r#""23°C""#;
    report(&[("temperature", odd), ("a/b", "1.50")]).unwrap();
    world.pass_ms(5);
    report(&[("temperature", "\"24°C\""), ("temperature", "\"25°C\"")]).unwrap();
    let twin = block_on(world.engine().for_caller(world.org(0)).twin_get(device.device_id)).unwrap();
    assert_eq!(twin.versions.reported, 2);
    let values = twin.resources.iter().map(|one| {
        let value = one.reported.as_ref().unwrap();
        (one.name.as_str(), value.value.as_deref().unwrap(), value.version)
    });
    let values: Vec<_> = values.collect();
    assert_eq!(values, [("a/b", "1.50", 1), ("temperature", "\"25°C\"", 2)]);
    let history = world.engine().for_caller(world.org(0)).twin_history(
        device.device_id,
        "temperature".to_owned(),
        None,
        10,
    );
    let history: Vec<_> = block_on(history).unwrap().into_iter().map(|one| one.value.unwrap()).collect();
    assert_eq!(history.last().map(|value| &**value), Some(odd));
    assert_eq!(history.len(), 3);
    let long = format!("\"{}\"", "x".repeat(16 * 1024));
    for refused in [&[][..], &[("a b", "1")], &[("", "1")], &[("a", &long)]] {
        assert!(matches!(report(refused), Err(Error::Invalid { .. })), "{refused:.40?}");
    }
    // There is room for so many, however many come at once.
    let names: Vec<_> = (0..RESOURCES_MAX).map(|number| format!("r{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert!(report(&all).is_err());
    report(&all[2..]).unwrap();
    assert!(report(&all[..1]).is_err());
    report(&all[2..3]).unwrap();
    assert!(report(&[("temperature", "1"), ("new", "1")]).is_err());
}

pub fn what_one_device_may_not_report_keeps_back_nothing_of_others(backend: impl Backend) {
    let world = World::without_budgets(backend);
    let [one, full, other] = ["a", "b", "c"].map(|uid| joined(&world, asked(&world, uid, Admission::Open)));
    let report = |reports: &[(&DeviceIdentity, &[(&str, &str)])]| {
        let report = |(device, values): &(&DeviceIdentity, &[(&str, &str)])| DeviceReport {
            device: (*device).clone(),
            values: reported(values),
        };
        let reports = reports.iter().map(report).collect();
        block_on(world.engine().server().twin_report_all(one.org, reports))
    };
    let names: Vec<_> = (0..RESOURCES_MAX).map(|number| format!("r{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(report(&[(&full, &all)]), [Ok(())]);
    let done = report(&[
        (&one, &[("led", "1")]),
        (&full, &[("led", "1")]),
        (&other, &[("a b", "1")]),
        (&other, &[("led", "1"), ("dim", "5")]),
        (&one, &[("led", "2")]),
    ]);
    let done: Vec<_> = done.iter().map(|done| matches!(done, Err(Error::Invalid { .. }))).collect();
    assert_eq!(done, [false, true, true, false, false]);
    let twin = |device: &DeviceIdentity| {
        let twin = block_on(world.engine().for_caller(world.org(0)).twin_get(device.device_id)).unwrap();
        let value = |one: &TwinResource| {
            let reported = one.reported.as_ref().unwrap();
            format!("{}={} {}", one.name, reported.value.as_deref().unwrap(), reported.version)
        };
        twin.resources.iter().map(value).collect::<Vec<_>>()
    };
    assert_eq!(twin(&one), ["led=2 2"]);
    assert_eq!(twin(&other), ["dim=5 1", "led=1 1"]);
    assert_eq!(twin(&full).len(), RESOURCES_MAX as usize);
    assert!(report(&[]).is_empty());
}

fn call(device: &DeviceIdentity, method: &str, payload: &str) -> TaskSpec {
    TaskSpec { method: Some(method.to_owned()), payload: Some(Arc::from(payload)), ..spec(device) }
}

/// What is to be written next: the task, and its values as text.
fn written(world: &World, device: &DeviceIdentity) -> Option<(TaskId, String)> {
    written_but(world, device, &[])
}

/// The same while the results of some writes are on their way.
fn written_but(world: &World, device: &DeviceIdentity, finishing: &[TaskId]) -> Option<(TaskId, String)> {
    block_on(world.engine().for_device(device).write_next(finishing)).unwrap().map(
        |NodeWrite { task, values }| {
            let values: Vec<_> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
            (task, values.join(";"))
        },
    )
}

fn status(world: &World, task: &Task) -> (TaskStatus, Cause) {
    let task = world.get(task.id).task;
    (task.status, task.timeline.last().unwrap().cause)
}

pub fn what_is_to_be_written_comes_one_after_the_other(backend: impl Backend) {
    let world = World::new(backend);
    let device = joined(&world, asked(&world, "a", Admission::Open));
    assert_eq!(written(&world, &device), None);
    let later = world.create(call(&device, "set", r#"{"b":"2","c":[1]}"#));
    let first = world.create(TaskSpec { priority: 5, ..call(&device, "set", r#"{"led":"1"}"#) });
    let now_or_never = world.create(TaskSpec { ttl_minutes: 0, ..call(&device, "set", r#"{"d":1}"#) });
    assert_eq!(written(&world, &device), Some((first.id, r#"led="1""#.to_owned())));
    assert_eq!(status(&world, &first), (TaskStatus::Lock, Cause::Taken));
    world.finish(&device, first.id, result(204, 0, "")).unwrap();
    // A task that is pushed only is given to a gateway, too: it is the connection of its node.
    assert_eq!(written(&world, &device), Some((now_or_never.id, "d=1".to_owned())));
    world.finish(&device, now_or_never.id, result(204, 0, "")).unwrap();
    assert_eq!(written(&world, &device), Some((later.id, r#"b="2";c=[1]"#.to_owned())));
    // What was taken and left comes again, before what came later and is more urgent: values keep their order.
    let urgent = world.create(TaskSpec { priority: 9, ..call(&device, "set", r#"{"b":"3","c":[2]}"#) });
    assert_eq!(written(&world, &device), Some((later.id, r#"b="2";c=[1]"#.to_owned())));
    // But not while its result is on the way.
    assert_eq!(written_but(&world, &device, &[later.id]), Some((urgent.id, r#"b="3";c=[2]"#.to_owned())));
    world.finish(&device, urgent.id, result(204, 0, "")).unwrap();
    world.finish(&device, later.id, result(204, 0, "")).unwrap();
    // A wish is a write.
    let wish = TwinPatch {
        desired: vec![("led".to_owned(), Some(Arc::from("\"0\"")))],
        ttl_minutes: 10,
        ..TwinPatch::default()
    };
    block_on(world.engine().for_caller(world.org(0)).twin_patch(device.device_id, wish)).unwrap();
    assert_eq!(written(&world, &device).map(|(_, values)| values), Some(r#"led="0""#.to_owned()));
}

pub fn what_no_node_can_do_ends_at_once_and_says_why(backend: impl Backend) {
    let world = World::without_budgets(backend);
    let device = joined(&world, asked(&world, "a", Admission::Open));
    world.listen(&device);
    let mut refused = Vec::new();
    for (method, payload, status_code) in [
        ("blink", "{}", 501),
        ("set", "[1]", 400),
        ("set", r#"{"a b":1}"#, 400),
        ("twin.set", r#"{"resource":"a"}"#, 400),
    ] {
        for _ in 0..10 {
            refused.push((world.create(call(&device, method, payload)), status_code));
        }
    }
    let by_number = world.create(spec(&device));
    refused.push((by_number, 501));
    let fine = world.create(call(&device, "set", r#"{"a":1}"#));
    assert_eq!(written(&world, &device), Some((fine.id, "a=1".to_owned())));
    for (task, status_code) in refused {
        let detail = world.get(task.id);
        assert_eq!(status(&world, &task), (TaskStatus::Failed, Cause::Result));
        let [only] = &detail.results[..] else { panic!("{detail:?}") };
        assert_eq!(only.result.status_code, status_code);
        assert!(matches!(&only.result.body, ResultBody::Text(why) if !why.is_empty()));
        assert_eq!(detail.task.deliveries, 0);
    }
}

pub fn a_newer_write_takes_the_place_of_older_ones_that_it_covers(backend: impl Backend) {
    let limits = Limits { live_tasks_per_device_max: 100, ..Limits::default() };
    let world = World::with_limits(backend, limits);
    let device = joined(&world, asked(&world, "a", Admission::Open));
    let set = |payload: &str| world.create(call(&device, "set", payload));
    let superseded = (TaskStatus::Deleted, Cause::Superseded);
    let old: Vec<_> = (0..40).map(|number| set(&format!(r#"{{"led":"{number}"}}"#))).collect();
    let other = set(r#"{"name":"x","led":"9"}"#);
    let newest = set(r#"{"led":"on"}"#);
    let wider = set(r#"{"led":"off","name":"y"}"#);
    // Best by rank is the oldest; of its resource only the newest counts, which sets more.
    assert_eq!(written(&world, &device), Some((wider.id, r#"led="off";name="y""#.to_owned())));
    for task in old.iter().chain([&other, &newest]) {
        assert_eq!(status(&world, task), superseded);
    }
    world.finish(&device, wider.id, result(204, 0, "")).unwrap();
    // A newer one that is more urgent must not be undone by an older one after it.
    let (older, apart) = (set(r#"{"led":"1"}"#), set(r#"{"led":"1","fan":"1"}"#));
    let urgent = world.create(TaskSpec { priority: 9, ..call(&device, "set", r#"{"led":"2"}"#) });
    assert_eq!(written(&world, &device), Some((urgent.id, r#"led="2""#.to_owned())));
    assert_eq!(status(&world, &older), superseded);
    assert_eq!(status(&world, &apart), (TaskStatus::Ready, Cause::Created), "it sets something else, too");
    world.finish(&device, urgent.id, result(204, 0, "")).unwrap();
    // One that the node has taken is not taken back.
    assert_eq!(written(&world, &device).map(|(id, _)| id), Some(apart.id));
    let wider = set(r#"{"led":"3","fan":"3"}"#);
    world.pass_ms(60_000);
    assert_eq!(written(&world, &device).map(|(id, _)| id), Some(apart.id));
    assert_eq!(status(&world, &apart).0, TaskStatus::Lock);
    assert_eq!(status(&world, &wider), (TaskStatus::Ready, Cause::Created));
}

pub fn a_node_that_is_retired_leaves_presence_as_any_device(backend: impl Backend) {
    let world = World::new(backend);
    let device = joined(&world, passing(&world, "u", "192.0.2.7", Admission::Open));
    world.engine().for_device(&device).connected(connection("s"));
    world.settle();
    assert!(world.devices(0, DeviceFilter::default()).items[0].presence.as_ref().unwrap().online);
    world.engine().for_device(&device).disconnected(connection("s"));
    block_on(world.engine().server().node_leave(&device)).unwrap();
    assert_eq!(world.devices(0, DeviceFilter::default()).items, []);
    let online = block_on(world.engine().server().presence_online(covey_core::id::DeviceKey(0), 10));
    assert_eq!(online.unwrap(), []);
}
