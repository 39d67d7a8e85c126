//! Bodies in blocks (RFC 7959), both ways.

use covey_gateway::coap::exchange::{
    BLOCK_WAIT_MS_MAX, Failure, Request, Response, STRANGER_BODY_BYTES_MAX, Terms,
};
use covey_gateway::coap::message::{Block, BlockSize, Code, Draft, Kind, Message, Token, option};

use super::network::{Answering, GATEWAY, NODE, Network, body};

const SIZES: [usize; 7] = [16, 32, 64, 128, 256, 512, 1_024];

fn size(bytes: usize) -> BlockSize {
    BlockSize::at_most(bytes).unwrap()
}

#[test]
fn bodies_of_all_sizes_go_both_ways() {
    for block in SIZES {
        for bytes in [0, 1, block - 1, block, block + 1, 3 * block, 20 * block + 5] {
            let mut network = Network::with(1, Terms { block_size: size(block), ..Terms::default() });
            network.serve(NODE, |asked| {
                Answering::Now(Response {
                    payload: asked.payload.clone(),
                    ..Response::text(Code::CHANGED, "")
                })
            });
            let request = network.request(GATEWAY, Request::put("a/b", body(bytes))).unwrap();
            network.run(1_000);
            assert_eq!(network.end_of(GATEWAY, request).unwrap().payload, body(bytes), "{bytes} of {block}");
            assert_eq!(network.ends[NODE].asked, ["a/b"]);
            let blocks = bytes.div_ceil(block).max(1);
            assert_eq!(network.sent_by(GATEWAY).len(), 2 * blocks - 1);
            let largest = network.sent_by(GATEWAY).iter().map(|(.., bytes)| *bytes).max().unwrap();
            assert!(largest < block + 40, "{largest}");
        }
    }
}

#[test]
fn the_largest_body_goes_and_a_larger_one_does_not() {
    let mut network = Network::new(2);
    network.serve(NODE, |asked| match asked.path.as_str() {
        "large" => {
            Answering::Now(Response { payload: body(64 * 1024 + 1), ..Response::text(Code::CONTENT, "") })
        }
        _ => Answering::Now(Response { payload: body(64 * 1024), ..Response::text(Code::CONTENT, "") }),
    });
    let request = network.request(GATEWAY, Request::get("fits")).unwrap();
    network.run(1_000);
    assert_eq!(network.end_of(GATEWAY, request).unwrap().payload, body(64 * 1024));
    let request = network.request(GATEWAY, Request::get("large")).unwrap();
    network.run(1_000);
    assert_eq!(network.end_of(GATEWAY, request), Err(Failure::TooLarge));
    // The other way: the server refuses what is announced as too large, with the first block.
    let mut network = Network::new(2);
    network.ends[NODE].exchange = covey_gateway::coap::exchange::Exchange::new(
        Terms { body_bytes_max: 10_000, ..Terms::default() },
        [9; 32],
    );
    let request = network.request(GATEWAY, Request::put("a", body(10_001))).unwrap();
    network.run(1_000);
    assert_eq!(network.end_of(GATEWAY, request).unwrap().code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(network.sent_by(GATEWAY).len(), 1);
}

#[test]
fn the_smaller_size_of_the_two_is_used() {
    for (of_client, of_server) in [(1_024, 64), (64, 1_024)] {
        let mut network = Network::with(3, Terms { block_size: size(of_client), ..Terms::default() });
        let terms = Terms { block_size: size(of_server), ..Terms::default() };
        network.ends[NODE].exchange = covey_gateway::coap::exchange::Exchange::new(terms, [9; 32]);
        network.serve(NODE, |asked| {
            Answering::Now(Response { payload: asked.payload.clone(), ..Response::text(Code::CHANGED, "") })
        });
        let request = network.request(GATEWAY, Request::put("a", body(5_000))).unwrap();
        network.run(1_000);
        assert_eq!(network.end_of(GATEWAY, request).unwrap().payload, body(5_000));
    }
}

/// A server of the test's own: gets each request, and writes its answer.
fn scripted(
    request: Request,
    mut answer: impl FnMut(usize, &Message<'_>, &mut Draft<'_>),
) -> (Result<Response, Failure>, usize) {
    let mut network = Network::new(4);
    network.lost = 100;
    let request = network.request(GATEWAY, Request { patience_ms: 60_000, ..request }).unwrap();
    let mut asked = 0;
    while asked < network.seen.len() {
        let bytes = network.seen[asked].2.clone();
        let message = Message::decode(&bytes).unwrap();
        let mut draft = Draft::new(Kind::Acknowledgement, Code::CONTENT, message.id, message.token);
        answer(asked, &message, &mut draft);
        let mut bytes = Vec::new();
        draft.encode(&mut bytes).unwrap();
        network.inject(GATEWAY, 5683, &bytes).unwrap();
        asked += 1;
    }
    (network.end_of(GATEWAY, request).cloned(), asked)
}

fn block_value(number: u32, has_more: bool, bytes: usize) -> u32 {
    let exponent = bytes.trailing_zeros() - 4;
    number << 4 | u32::from(has_more) << 3 | exponent
}

#[test]
fn blocks_out_of_order_and_of_a_wrong_size_are_no_answer() {
    // Number, whether more follow, size that is said, size that is.
    for second in
        [(2, true, 64, 64), (0, true, 64, 64), (1, true, 64, 63), (1, false, 64, 65), (1, true, 32, 32)]
    {
        let (end, _) = scripted(Request::get("a"), |index, _, draft| {
            let (number, has_more, said, is) = if index == 0 { (0, true, 64, 64) } else { second };
            draft.number(option::BLOCK2, block_value(number, has_more, said));
            draft.payload = [0; 100].get(..is).unwrap();
        });
        assert!(matches!(end, Err(Failure::Broken(_))), "{second:?}: {end:?}");
    }
    // Smaller blocks from the right place on are right.
    let (end, _) = scripted(Request::get("a"), |index, _, draft| {
        let (number, has_more, bytes) = [(0, true, 64), (2, true, 32), (3, false, 32)][index];
        draft.number(option::BLOCK2, block_value(number, has_more, bytes));
        draft.payload = [7; 100].get(..bytes).unwrap();
    });
    assert_eq!(end.unwrap().payload, [7; 128]);
}

#[test]
fn an_answer_that_changes_while_it_is_fetched_is_fetched_anew_once() {
    let changing = |changes: usize| {
        scripted(Request::get("a"), move |index, asked, draft| {
            let block = asked.block(option::BLOCK2).unwrap();
            let number = block.map_or(0, |block| block.number);
            draft.option(option::ETAG, vec![u8::try_from(index.min(changes)).unwrap()]);
            draft.number(option::BLOCK2, block_value(number, number < 3, 64));
            draft.payload = &[1; 64];
        })
    };
    assert_eq!(changing(0).0.unwrap().payload.len(), 256);
    assert_eq!(changing(1).0.unwrap().payload.len(), 256);
    assert!(matches!(changing(100).0, Err(Failure::Broken(_))));
}

#[test]
fn the_last_block_may_be_answered_without_a_block_option() {
    // libcoap 4.3.1.
    let (end, asked) = scripted(Request::put("a", body(2_500)), |_, asked, draft| {
        let block = asked.block(option::BLOCK1).unwrap().unwrap();
        draft.code = if block.has_more { Code::CONTINUE } else { Code::CREATED };
        if block.has_more {
            draft.number(option::BLOCK1, block_value(block.number, true, block.size.bytes()));
        }
    });
    assert_eq!((end.unwrap().code, asked), (Code::CREATED, 3));
    // A part that is taken for the whole is no success.
    let (end, _) = scripted(Request::put("a", body(2_500)), |_, _, draft| draft.code = Code::CHANGED);
    assert!(matches!(end, Err(Failure::Broken(_))));
    // One that asks to go on behind the end neither.
    let (end, _) = scripted(Request::put("a", body(1_500)), |_, _, draft| draft.code = Code::CONTINUE);
    assert!(matches!(end, Err(Failure::Broken(_))));
    // An error ends it at once.
    let (end, asked) = scripted(Request::put("a", body(2_500)), |_, _, draft| draft.code = Code::NOT_FOUND);
    assert_eq!((end.unwrap().code, asked), (Code::NOT_FOUND, 1));
}

#[test]
fn a_server_that_wants_blocks_or_smaller_ones_gets_them() {
    // RFC 7959 §2.9.3: 4.13 with the size that it takes, to a whole body and to a first block.
    for bytes in [500, 2_500] {
        let mut got = Vec::new();
        let (end, _) = scripted(Request::put("a", body(bytes)), |index, asked, draft| {
            if index == 0 {
                draft.code = Code::REQUEST_ENTITY_TOO_LARGE;
                draft.number(option::BLOCK1, block_value(0, true, 64));
                return;
            }
            let block = asked.block(option::BLOCK1).unwrap().unwrap();
            assert_eq!((block.size.bytes(), block.offset()), (64, got.len()));
            got.extend_from_slice(asked.payload);
            draft.code = if block.has_more { Code::CONTINUE } else { Code::CHANGED };
            draft.number(option::BLOCK1, block_value(block.number, block.has_more, 64));
        });
        assert_eq!(end.unwrap().code, Code::CHANGED);
        assert_eq!(got, body(bytes));
    }
}

/// A request with a block of its body, as bytes.
fn block1(id: u16, number: u32, has_more: bool, bytes: usize, payload: &[u8]) -> Vec<u8> {
    let mut draft = Draft::new(Kind::Confirmable, Code::PUT, id, Token::new(&id.to_be_bytes()).unwrap());
    draft.option(option::URI_PATH, &b"a"[..]);
    draft.number(option::BLOCK1, block_value(number, has_more, bytes));
    draft.payload = payload;
    let mut bytes = Vec::new();
    draft.encode(&mut bytes).unwrap();
    bytes
}

fn last(network: &Network) -> (Code, Option<Block>) {
    let bytes = &network.seen.last().unwrap().2;
    let message = Message::decode(bytes).unwrap();
    (message.code, message.block(option::BLOCK1).unwrap())
}

#[test]
fn blocks_that_come_out_of_order_are_refused_and_may_come_right_after_that() {
    let mut network = Network::new(5);
    network.serve(GATEWAY, |asked| {
        assert_eq!(asked.payload, body(150));
        Answering::Now(Response::new(Code::CHANGED))
    });
    let body = body(150);
    _ = network.inject(GATEWAY, 40_000, &block1(1, 1, true, 64, &body[64..128]));
    assert_eq!(last(&network).0, Code::REQUEST_ENTITY_INCOMPLETE);
    network.inject(GATEWAY, 40_000, &block1(2, 0, true, 64, &body[..64])).unwrap();
    assert_eq!(last(&network), (Code::CONTINUE, Some(Block::at(0, size(64), true).unwrap())));
    _ = network.inject(GATEWAY, 40_000, &block1(3, 2, false, 64, &body[128..]));
    assert_eq!(last(&network).0, Code::REQUEST_ENTITY_INCOMPLETE);
    // Each from another port, as nodes do; and one comes twice.
    for _ in 0..2 {
        network.inject(GATEWAY, 40_001, &block1(4, 1, true, 64, &body[64..128])).unwrap();
        assert_eq!(last(&network).0, Code::CONTINUE);
    }
    network.inject(GATEWAY, 40_002, &block1(5, 2, false, 64, &body[128..])).unwrap();
    assert_eq!(last(&network), (Code::CHANGED, Some(Block::at(128, size(64), false).unwrap())));
    assert_eq!(network.ends[GATEWAY].asked.len(), 1);
}

#[test]
fn blocks_of_a_wrong_size_and_late_ones_are_refused() {
    let mut network = Network::new(6);
    _ = network.inject(GATEWAY, 40_000, &block1(1, 0, true, 64, &[0; 63]));
    assert_eq!(last(&network).0, Code::BAD_REQUEST);
    _ = network.inject(GATEWAY, 40_000, &block1(2, 0, false, 64, &[0; 65]));
    assert_eq!(last(&network).0, Code::BAD_REQUEST);
    network.inject(GATEWAY, 40_000, &block1(3, 0, true, 64, &[0; 64])).unwrap();
    network.run(BLOCK_WAIT_MS_MAX + 20_000);
    _ = network.inject(GATEWAY, 40_000, &block1(4, 1, false, 64, &[0; 64]));
    assert_eq!(last(&network).0, Code::REQUEST_ENTITY_INCOMPLETE);
    // A number that would begin behind all bodies.
    _ = network.inject(GATEWAY, 40_000, &block1(5, 0xF_FFFF, true, 1_024, &[0; 1_024]));
    assert_eq!(last(&network).0, Code::REQUEST_ENTITY_TOO_LARGE);
}

#[test]
fn a_stranger_has_less_room() {
    let mut network = Network::new(7);
    network.ends[NODE].is_proven = false;
    let count = u32::try_from(STRANGER_BODY_BYTES_MAX / 64).unwrap();
    for number in 0..count {
        let id = u16::try_from(number).unwrap();
        network.inject(GATEWAY, 40_000, &block1(id, number, true, 64, &[0; 64])).unwrap();
    }
    _ = network.inject(GATEWAY, 40_000, &block1(60_000, count, false, 64, &[0; 64]));
    assert_eq!(last(&network).0, Code::REQUEST_ENTITY_TOO_LARGE);
}

/// Asks for a block of an answer.
fn block2(method: Code, id: u16, number: u32, bytes: usize) -> Vec<u8> {
    let mut draft = Draft::new(Kind::Confirmable, method, id, Token::default());
    draft.option(option::URI_PATH, &b"a"[..]);
    draft.number(option::BLOCK2, block_value(number, false, bytes));
    let mut bytes = Vec::new();
    draft.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn any_block_of_an_answer_may_be_asked_for() {
    let mut network = Network::new(8);
    network.serve(GATEWAY, |_| {
        Answering::Now(Response { payload: body(1_000), ..Response::text(Code::CONTENT, "") })
    });
    let answer = |network: &Network| {
        let bytes = network.seen.last().unwrap().2.clone();
        let message = Message::decode(&bytes).unwrap();
        let block = message.block(option::BLOCK2).unwrap();
        (message.code, block.map(|block| (block.number, block.has_more)), message.payload.to_vec())
    };
    // A single one, without those before it: it is made for that.
    network.inject(GATEWAY, 1, &block2(Code::GET, 1, 3, 64)).unwrap();
    assert_eq!(answer(&network), (Code::CONTENT, Some((3, true)), body(1_000)[192..256].to_vec()));
    // From here on the answer is kept.
    for number in 4..16 {
        let id = u16::try_from(number).unwrap();
        network.inject(GATEWAY, 1, &block2(Code::GET, id, number, 64)).unwrap();
    }
    assert_eq!(answer(&network), (Code::CONTENT, Some((15, false)), body(1_000)[960..].to_vec()));
    assert_eq!(network.ends[GATEWAY].asked.len(), 1);
    // The last one again, one behind the end, and one of a request that has no answer kept.
    network.inject(GATEWAY, 1, &block2(Code::GET, 15, 15, 64)).unwrap();
    assert_eq!(answer(&network).2, body(1_000)[960..]);
    _ = network.inject(GATEWAY, 1, &block2(Code::GET, 16, 16, 64));
    assert_eq!(answer(&network).0, Code::BAD_REQUEST);
    _ = network.inject(GATEWAY, 1, &block2(Code::POST, 17, 1, 64));
    assert_eq!(answer(&network).0, Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn blocks_survive_a_bad_network() {
    for seed in 0..20 {
        let mut network = Network::new(seed);
        (network.lost, network.twice, network.delay_ms) = (10, 20, 300);
        network.serve(NODE, |asked| {
            Answering::Now(Response { payload: asked.payload.clone(), ..Response::text(Code::CHANGED, "") })
        });
        let request = Request { block_size: Some(size(256)), ..Request::put("a", body(8_000)) };
        let request = network.request(GATEWAY, request).unwrap();
        network.run(900_000);
        match network.end_of(GATEWAY, request) {
            Ok(response) => assert_eq!(response.payload, body(8_000)),
            Err(why) => assert_eq!(why, Failure::TimedOut),
        }
        assert!(network.ends[NODE].asked.len() <= 1);
    }
}
