//! Tokens: the keys of servers, whom a token names, and what one may be.

use covey_core::Error;
use covey_core::access::{Access, Caller, CallerKind, Grant, Grants, KeyBounds, Method, Rights};
use covey_core::id::OrgId;
use covey_core::token::{MadeFrom, NamedOrg, OrgWanted, TOKEN_KEYS_MAX, TokenKey, TokenWanted};
use futures_executor::block_on;

use crate::world::{Backend, World};

pub fn keys_for_tokens_are_known_to_all_until_they_are_over(backend: impl Backend) {
    let mut world = World::new(backend);
    let now = world.now();
    let key = |id: &str, valid_ms: i64| TokenKey {
        id: id.to_owned(),
        server: "one".to_owned(),
        jwk: format!(r#"{{"kid":"{id}"}}"#),
        made_at: now,
        signs_until: now.plus_ms(valid_ms / 2),
        valid_until: now.plus_ms(valid_ms),
    };
    let add = |world: &World, key: TokenKey| block_on(world.engine().server().token_key_add(key)).unwrap();
    let known = |world: &World| block_on(world.engine().server().token_keys()).unwrap();
    assert!(known(&world).is_empty());
    let (short, long) = (key("a", 1_000), key("b", 1_000_000));
    add(&world, short.clone());
    add(&world, long.clone());
    add(&world, TokenKey { jwk: "other".to_owned(), ..short.clone() });
    world.restart();
    assert_eq!(known(&world), [short.clone(), long.clone()], "a key stays as it was made");
    world.pass_ms(1_000);
    assert_eq!(known(&world), std::slice::from_ref(&long));
    let next = key("c", 2_000_000);
    add(&world, next.clone());
    add(&world, TokenKey { valid_until: now.plus_ms(3_000_000), ..short.clone() });
    assert!(
        known(&world).iter().any(|key| key.id == short.id && key.valid_until > short.valid_until),
        "it was forgotten"
    );
}

pub fn keys_for_tokens_that_are_over_make_room_for_others(backend: impl Backend) {
    let world = World::new(backend);
    let now = world.now();
    let add = |world: &World, number: i64, valid_ms: i64| {
        let key = TokenKey {
            id: number.to_string(),
            server: "one".to_owned(),
            jwk: "{}".to_owned(),
            made_at: now,
            signs_until: now,
            valid_until: now.plus_ms(valid_ms),
        };
        block_on(world.engine().server().token_key_add(key))
    };
    for number in 0..TOKEN_KEYS_MAX {
        add(&world, number, 1_000_000).unwrap();
    }
    assert!(matches!(add(&world, TOKEN_KEYS_MAX, 2_000_000), Err(Error::Exhausted { .. })));
    assert_eq!(block_on(world.engine().server().token_keys()).unwrap().len() as i64, TOKEN_KEYS_MAX);
    world.pass_ms(1_000_000);
    add(&world, TOKEN_KEYS_MAX, 2_000_000).unwrap();
    assert_eq!(block_on(world.engine().server().token_keys()).unwrap().len(), 1);
}

pub fn a_token_names_what_is_there(backend: impl Backend) {
    let world = World::new(backend);
    let root = world.org(0).clone();
    let org = |wanted| block_on(world.engine().server().org(wanted)).unwrap();
    let there = NamedOrg { id: root.org, name: "first".to_owned() };
    assert_eq!(org(OrgWanted::Name("first".to_owned())), Some(there.clone()));
    assert_eq!(org(OrgWanted::Number(root.org)), Some(there));
    for nothing in ["", "First", "1", "first "] {
        assert_eq!(org(OrgWanted::Name(nothing.to_owned())), None, "{nothing:?}");
    }
    assert_eq!(org(OrgWanted::Number(OrgId(i64::MAX))), None);
    let made =
        block_on(world.engine().for_caller(&root).api_key_add("first", "x", Rights::TASKS_READ)).unwrap();
    let of_number = |id| block_on(world.engine().server().api_key_of_number(id)).unwrap();
    assert_eq!(of_number(made.key.id), Some(made.key.clone()));
    block_on(world.engine().for_caller(&root).api_key_revoke(made.key.id)).unwrap();
    assert_eq!((of_number(made.key.id), of_number(0)), (None, None));
}

pub fn a_token_is_within_what_its_key_may(backend: impl Backend) {
    let world = World::new(backend);
    let (root, now) = (world.org(0).clone(), world.now());
    let grants = vec![
        Grant { rights: Rights::TASKS_READ, methods: vec![Method::Code(20)], ..Grant::default() },
        Grant { rights: Rights::EVENTS_READ, event_types: vec![13], ..Grant::default() },
    ];
    let access = Access {
        rights: Rights::DEVICES_READ,
        grants: Grants::new(grants).unwrap(),
        bounds: KeyBounds { expires_at: Some(now.plus_ms(60_000)), ..KeyBounds::default() },
    };
    let made = block_on(world.engine().for_caller(&root).api_key_add("first", "x", access)).unwrap();
    let caller = Caller::of(&made.key);
    let wanted = |rights, seconds| TokenWanted { rights, seconds, until: None };
    let granted = |caller: &Caller, wanted| world.engine().for_caller(caller).token_grant(wanted);
    let all = granted(&caller, wanted(None, 10)).unwrap();
    assert_eq!(all.rights, Rights(Rights::DEVICES_READ.0 | Rights::TASKS_READ.0 | Rights::EVENTS_READ.0));
    assert_eq!((all.made_from, all.expires_at.since_ms(all.now)), (MadeFrom::Key(made.key.id), 10_000));
    let long = granted(&caller, wanted(Some(Rights::TASKS_READ), 86_400)).unwrap();
    assert_eq!(Some(long.expires_at), made.key.bounds.expires_at, "no longer than its key");
    assert!(matches!(granted(&caller, wanted(Some(Rights::TASKS_WRITE), 10)), Err(Error::Forbidden { .. })));
    for seconds in [0, 9, 86_401, u32::MAX] {
        assert!(matches!(
            granted(&caller, wanted(None, seconds)),
            Err(Error::Invalid { field: "expires_in", .. })
        ));
    }
    let bearer = Caller::of_key_token(&made.key, long.rights, long.expires_at);
    assert_eq!((bearer.id, bearer.kind, bearer.rights), (caller.id, CallerKind::Token, Rights::default()));
    assert_eq!(bearer.grants.rights(), Rights::TASKS_READ, "the rest was left out");
    assert!(
        matches!(granted(&bearer, wanted(None, 10)), Err(Error::Conflict { .. })),
        "none is made from a token"
    );
}
