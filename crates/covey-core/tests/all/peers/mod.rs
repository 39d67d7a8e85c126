//! Several servers on one store: what they tell each other, and what holds when
//! that is late, lost, or told twice.

mod servers;

use std::collections::HashSet;

use covey_core::id::TaskId;
use covey_core::node::{GatewayName, NodeName};
use proptest::prelude::*;

use crate::world::spec;
use servers::Servers;

#[test]
fn a_task_is_announced_by_the_server_that_holds_the_connection() {
    let servers = Servers::new(2, false);
    let device = servers.device();
    servers.listen_at(1, &device);
    let task = servers.create(0, spec(&device));
    assert!(servers.announced().is_empty(), "the server that made it does not reach the device");
    servers.deliver();
    assert_eq!(servers.announced(), [task.id]);
}

#[test]
fn the_gateways_of_all_servers_hear_that_a_node_may_join() {
    for is_shared in [false, true] {
        let servers = Servers::new(2, is_shared);
        let name = NodeName::parse(GatewayName::parse("coap").unwrap(), "a b").unwrap();
        servers.list_node(0, name.clone());
        assert_eq!((servers.changed(0), servers.changed(1)), (vec![name.clone()], vec![]));
        servers.deliver();
        assert_eq!((servers.changed(0).len(), servers.changed(1)), (1, vec![name]));
    }
}

#[test]
fn who_waits_is_told_whichever_server_the_result_comes_to() {
    for is_shared in [false, true] {
        let servers = Servers::new(2, is_shared);
        let device = servers.device();
        let task = servers.create(0, spec(&device));
        let mut waiting = servers.watch(0, task.id);
        servers.finish(1, &device, task.id);
        assert!(!waiting.is_told(), "not before the news");
        servers.deliver();
        assert!(waiting.is_told());
    }
}

#[test]
fn who_waits_is_told_though_the_news_is_lost() {
    let servers = Servers::new(2, true);
    let device = servers.device();
    let task = servers.create(0, spec(&device));
    let mut waiting = servers.watch(0, task.id);
    servers.finish(1, &device, task.id);
    servers.lose();
    servers.look(0);
    assert!(waiting.is_told());
}

#[test]
fn over_a_shared_broker_the_windows_of_all_servers_are_one() {
    let servers = Servers::new(3, true);
    let device = servers.device();
    servers.listen_at(0, &device);
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let task = servers.create(number % 3, spec(&device));
            servers.deliver();
            task.id
        })
        .collect();
    let mut announced = servers.announced();
    assert_eq!(announced.len(), 16);
    // Whichever server hears an answer announces the next.
    for (turn, task) in tasks.iter().enumerate() {
        servers.finish(turn % 3, &device, *task);
        servers.deliver();
        announced.extend(servers.announced());
        assert!(announced.len() <= 16 + turn + 1);
    }
    assert_eq!(announced, tasks, "each once, in their order");
}

#[test]
fn a_task_that_came_before_word_of_the_subscription_is_announced() {
    let servers = Servers::new(2, true);
    let device = servers.device();
    servers.listen_first_at(0, &device);
    let task = servers.create(1, spec(&device));
    assert!(servers.announced().is_empty(), "the second server has not heard of the subscription");
    servers.listen_elsewhere_at(1, &device);
    assert_eq!(servers.announced(), [task.id]);
}

#[test]
fn a_task_of_a_server_that_died_before_announcing_it_is_announced() {
    let servers = Servers::new(2, true);
    let device = servers.device();
    servers.listen_at(0, &device);
    servers.deliver();
    let task = servers.create_and_die(1, spec(&device));
    assert!(servers.announced().is_empty());
    servers.look(0);
    assert_eq!(servers.announced(), [task]);
}

#[derive(Clone, Debug)]
enum Action {
    Create(usize),
    Finish(usize, usize),
    Deliver,
    Lose,
    Twice,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let server = || 0..3_usize;
    let action = prop_oneof![
        6 => server().prop_map(Action::Create),
        4 => (server(), 0..64_usize).prop_map(|(server, task)| Action::Finish(server, task)),
        6 => Just(Action::Deliver),
        1 => Just(Action::Lose),
        1 => Just(Action::Twice),
    ];
    proptest::collection::vec(action, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_task_is_announced_and_every_waiter_told_in_the_end(
        is_shared in any::<bool>(), actions in actions()
    ) {
        let servers = Servers::new(3, is_shared);
        let device = servers.device();
        servers.listen_at(0, &device);
        let (mut open, mut waiting) = (Vec::<TaskId>::new(), Vec::new());
        let mut announced = HashSet::new();
        for action in actions {
            match action {
                Action::Create(server) => {
                    let task = servers.create(server, spec(&device));
                    waiting.push((task.id, servers.watch((server + 1) % 3, task.id)));
                    open.push(task.id);
                }
                Action::Finish(server, task) if !open.is_empty() => {
                    servers.finish(server, &device, open.remove(task % open.len()));
                }
                Action::Finish(..) => {}
                Action::Deliver => servers.deliver(),
                Action::Lose => servers.lose(),
                Action::Twice => servers.deliver_twice(),
            }
            announced.extend(servers.announced());
        }
        servers.deliver();
        (0..3).for_each(|server| servers.look(server));
        while let Some(task) = open.pop() {
            announced.extend(servers.announced());
            servers.finish(0, &device, task);
            servers.deliver();
            (0..3).for_each(|server| servers.look(server));
            announced.extend(servers.announced());
            let unannounced = open.iter().filter(|task| !announced.contains(*task)).count();
            if open.len() <= 16 {
                prop_assert_eq!(unannounced, 0, "{:?}", open);
            }
        }
        for (task, mut one) in waiting {
            prop_assert!(one.is_told(), "{task}");
        }
    }
}
