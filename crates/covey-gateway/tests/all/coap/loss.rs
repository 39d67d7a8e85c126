//! A network that loses, repeats, delays and reorders: each request ends once, and is served once at most.
//! `PROPTEST_CASES=20000 cargo test -p covey-gateway loss` tries more.

use std::collections::BTreeMap;

use covey_gateway::coap::exchange::{Event, Failure, Request, RequestId, Response};
use covey_gateway::coap::message::{BlockSize, Code};
use proptest::prelude::*;

use super::network::{Answering, GATEWAY, NODE, Network, body};

#[derive(Clone, Debug)]
struct Wish {
    side: usize,
    is_confirmable: bool,
    /// How large the body is, and how large the answer.
    bytes: usize,
    answer_bytes: usize,
    answer_ms: u64,
    after_ms: u64,
    block_bytes: usize,
}

fn wish() -> impl Strategy<Value = Wish> {
    let bytes = || prop_oneof![4 => 0..100_usize, 1 => 1_000..6_000_usize];
    let answer_ms = prop_oneof![3 => Just(0_u64), 1 => 1..30_000_u64];
    (0..2_usize, any::<bool>(), bytes(), bytes(), answer_ms, 0..5_000_u64, 64..1_024_usize).prop_map(
        |(side, is_confirmable, bytes, answer_bytes, answer_ms, after_ms, block_bytes)| Wish {
            side,
            is_confirmable,
            bytes,
            answer_bytes,
            answer_ms,
            after_ms,
            block_bytes,
        },
    )
}

fn check(seed: u8, wishes: &[Wish], lost: u32, twice: u32, delay_ms: u64) {
    let mut network = Network::new(seed);
    (network.lost, network.twice, network.delay_ms) = (lost, twice, delay_ms);
    for side in [GATEWAY, NODE] {
        network.serve(side, |asked| {
            // The path says how the answer is to be.
            let mut parts = asked.path.split('/').skip(1).map(|part| part.parse::<u64>().unwrap());
            let (answer_bytes, answer_ms, bytes) =
                (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            assert_eq!(asked.payload, body(usize::try_from(bytes).unwrap()));
            let payload = body(usize::try_from(answer_bytes).unwrap());
            let response = Response { payload, ..Response::text(Code::CHANGED, "") };
            if answer_ms == 0 { Answering::Now(response) } else { Answering::After(answer_ms, response) }
        });
    }
    let mut open: Vec<(usize, RequestId, &Wish)> = Vec::new();
    for (index, wish) in wishes.iter().enumerate() {
        network.run(wish.after_ms);
        let path = format!("{index}/{}/{}/{}", wish.answer_bytes, wish.answer_ms, wish.bytes);
        let request = Request {
            is_confirmable: wish.is_confirmable,
            block_size: BlockSize::at_most(wish.block_bytes),
            ..Request::put(path, body(wish.bytes))
        };
        open.push((wish.side, network.request(wish.side, request).unwrap(), wish));
    }
    network.run(20 * 60_000);
    for (side, request, wish) in &open {
        match network.end_of(*side, *request) {
            Ok(response) => {
                // A block of an answer may be asked for that is kept no more; with an error nothing is told.
                if response.code.is_success() {
                    assert_eq!(response.payload, body(wish.answer_bytes));
                } else {
                    assert!(
                        matches!(response.code, Code::REQUEST_ENTITY_INCOMPLETE)
                            && (lost > 0 || delay_ms > 0),
                        "{response:?}"
                    );
                }
            }
            Err(why) => assert!(why == Failure::TimedOut && lost > 0, "{why:?} {wish:?}"),
        }
    }
    for side in [GATEWAY, NODE] {
        let mut served = BTreeMap::new();
        for path in &network.ends[side].asked {
            *served.entry(path.clone()).or_insert(0) += 1;
        }
        assert!(served.values().all(|count| *count == 1), "{served:?}");
        let events = &network.ends[side].events;
        assert!(events.iter().all(|event| matches!(event, Event::Answered { .. } | Event::Failed { .. })));
        assert_eq!(events.len(), open.iter().filter(|(of, ..)| *of == side).count());
        assert_eq!(network.ends[side].exchange.held_bytes(), 0, "nothing is kept of what is over");
    }
}

proptest! {
    #[test]
    fn each_request_ends_once_and_is_served_once(
        seed in any::<u8>(),
        wishes in proptest::collection::vec(wish(), 1..12),
        lost in 0..40_u32,
        twice in 0..40_u32,
        delay_ms in prop_oneof![0..100_u64, 0..6_000_u64],
    ) {
        check(seed, &wishes, lost, twice, delay_ms);
    }

    #[test]
    fn on_a_good_network_all_are_answered(
        seed in any::<u8>(),
        wishes in proptest::collection::vec(wish(), 1..12),
    ) {
        check(seed, &wishes, 0, 0, 0);
    }
}
