//! People: how they are made, what they may do, and the sessions in which they have signed in.

use covey_core::Error;
use covey_core::access::{Caller, CallerKind, Rights, Role};
use covey_core::person::{
    Enrolled, INVITATION_MS_MAX, Identity, MadeLink, Membership, OWN_LINK_MS_MAX, PersonSession,
    SESSION_IDLE_MS_MAX, SESSION_MS_MAX, SESSIONS_MAX, SignIn, link_digest, recovery,
};
use covey_core::port::PageRequest;
use covey_core::token::{MadeFrom, OrgWanted, TokenWanted};
use futures_executor::block_on;

use crate::world::parts::digest;
use crate::world::{Backend, World};

const PAGE: PageRequest = PageRequest { page: 1, size: 100 };
const IN: SignIn<'static> = SignIn { org: None, from: None, agent: "a browser", by: "password" };

const fn plain(role: Role) -> Membership {
    Membership { role, is_for_every_org: false }
}

fn add(world: &World, caller: &Caller, name: &str, org: &str, role: Role) -> covey_core::Result<MadeLink> {
    block_on(world.engine().for_caller(caller).person_add(name, org, plain(role)))
}

/// Makes somebody who has set a password; its session, and what the browser shows.
fn signed_in(world: &World, name: &str, org: &str, role: Role) -> (PersonSession, String) {
    let made = add(world, world.org(0), name, org, role).unwrap();
    let token = made.clear_text.unwrap();
    block_on(world.engine().server().invitation_take(&token, "hash".to_owned(), IN)).unwrap()
}

fn check(world: &World, clear_text: &str) -> Option<PersonSession> {
    block_on(world.engine().server().person_session_check(clear_text)).unwrap()
}

pub fn a_link_is_good_once_and_for_a_time_and_signs_in(backend: impl Backend) {
    let mut world = World::new(backend);
    let root = world.org(0).clone();
    let made = add(&world, &root, " Ada@Example.com", "first", Role::Operator).unwrap();
    assert_eq!((made.person.name.as_str(), made.person.has_password), ("ada@example.com", false));
    assert_eq!(made.person.link_until, Some(world.now().plus_ms(INVITATION_MS_MAX)));
    let token = made.clear_text.unwrap();
    let server = |world: &World, token: &str| {
        block_on(world.engine().server().invitation_take(token, "hash".to_owned(), IN))
    };
    let gone = |result: covey_core::Result<(PersonSession, String)>| {
        assert!(matches!(result, Err(Error::NotFound { .. })), "{:?}", result.err());
    };
    gone(server(&world, "another"));
    // Another link takes its place, and its time has an end.
    let again = block_on(world.engine().for_caller(&root).person_link(made.person.id, false)).unwrap();
    gone(server(&world, &token));
    let token = again.clear_text.unwrap();
    assert_eq!(block_on(world.engine().server().invitation(&token)).unwrap().name, "ada@example.com");
    world.pass_ms(INVITATION_MS_MAX);
    gone(server(&world, &token));
    assert!(block_on(world.engine().server().invitation(&token)).is_err());
    let token = block_on(world.engine().for_caller(&root).person_link(made.person.id, false)).unwrap();
    let token = token.clear_text.unwrap();
    let (session, shown) = server(&world, &token).unwrap();
    gone(server(&world, &token));
    assert_eq!((session.name.as_str(), session.agent.as_str()), ("ada@example.com", "a browser"));
    world.restart();
    assert_eq!(check(&world, &shown), Some(session.clone()));
    assert_eq!(check(&world, &token), None, "a link is no session");
    let known = block_on(world.engine().server().person_credential("ADA@example.com")).unwrap().unwrap();
    assert_eq!((known.id, known.password.as_deref()), (made.person.id, Some("hash")));
    assert!(block_on(world.engine().server().person_credential("a b")).unwrap().is_none());
    // Whoever holds the store makes a link as well; a new password ends the sessions that are there.
    let link = (link_digest(digest, "by hand"), world.now().plus_ms(OWN_LINK_MS_MAX));
    let named = |name| block_on(recovery::person_link(&**world.store(), name, link)).map(|person| person.id);
    assert_eq!(named("ada@example.com"), Ok(made.person.id));
    assert!(matches!(named("bob"), Err(Error::NotFound { .. })));
    let (next, _) = server(&world, "by hand").unwrap();
    assert!(check(&world, &shown).is_none() && next.id != session.id);
    let caller = Caller::of_session(&next);
    assert_eq!((caller.kind, caller.rights), (CallerKind::Person, Role::Operator.rights()));
}

pub fn nobody_gives_what_it_has_not_and_people_of_others_do_not_exist(backend: impl Backend) {
    let world = World::new(backend);
    let root = world.org(0).clone();
    let (ada, _) = signed_in(&world, "ada", "first", Role::Admin);
    let (bob, _) = signed_in(&world, "bob", "second", Role::Viewer);
    let (admin, viewer) = (Caller::of_session(&ada), Caller::of_session(&bob));
    let every = Membership { role: Role::Admin, is_for_every_org: true };
    let for_caller = |caller| world.engine().for_caller(caller);
    let forbidden = |result: covey_core::Result<()>| {
        assert!(matches!(result, Err(Error::Forbidden { .. })), "{result:?}");
    };
    forbidden(add(&world, &viewer, "x", "second", Role::Viewer).map(drop));
    forbidden(add(&world, &admin, "x", "second", Role::Viewer).map(drop));
    forbidden(block_on(for_caller(&admin).person_add("x", "first", every)).map(drop));
    forbidden(block_on(for_caller(&admin).person_role_set(ada.person, every)).map(drop));
    let keeper = Caller { rights: Rights::KEYS_WRITE, ..admin.clone() };
    forbidden(add(&world, &keeper, "x", "first", Role::Viewer).map(drop));
    forbidden(block_on(for_caller(&keeper).person_link(ada.person, false)).map(drop));
    let unknown = add(&world, &root, "x", "nowhere", Role::Viewer).map(drop);
    assert!(matches!(unknown, Err(Error::Invalid { field: "org", .. })), "{unknown:?}");

    // Those of another organisation are not there, but for their names, which are of the deployment.
    let names = |caller: &Caller, all| {
        let found = block_on(world.engine().for_caller(caller).person_list(None, all, PAGE)).unwrap();
        assert_eq!(found.total, found.items.len() as u64);
        found.items.into_iter().map(|person| person.name).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&admin, false), names(&root, true)),
        (vec!["ada".to_owned()], vec!["ada".to_owned(), "bob".to_owned()])
    );
    forbidden(block_on(for_caller(&admin).person_list(None, true, PAGE)).map(drop));
    let missing = Err(Error::not_found("user"));
    assert_eq!(block_on(for_caller(&admin).person_get(bob.person, false)).map(drop), missing);
    assert_eq!(block_on(for_caller(&admin).person_remove(bob.person, false)), missing);
    assert_eq!(block_on(for_caller(&admin).person_link(bob.person, false)).map(drop), missing);
    assert_eq!(
        block_on(for_caller(&admin).person_role_set(bob.person, plain(Role::Viewer))).map(drop),
        missing
    );
    let ended = block_on(for_caller(&admin).person_session_end(bob.id, false)).map(drop);
    assert_eq!(ended, Err(Error::not_found("session")));
    let taken = add(&world, &admin, "Bob", "first", Role::Viewer).map(drop);
    assert!(matches!(taken, Err(Error::Conflict { .. })), "{taken:?}");

    // Somebody is in two organisations, and signs in for one of them.
    let both = add(&world, &root, "bob", "first", Role::Admin).unwrap();
    assert!(both.clear_text.is_none(), "whoever makes somebody known does not become him");
    let sign_in = |org| block_on(world.engine().server().person_sign_in(bob.person, SignIn { org, ..IN }));
    let (first, _) = sign_in(Some("first")).unwrap();
    assert_eq!((first.org, first.membership.role), (root.org, Role::Admin));
    assert!(matches!(sign_in(Some("third")), Err(Error::Invalid { field: "org", .. })));
    assert_ne!(Caller::of_session(&first).id, viewer.id, "one for each organisation");
    forbidden(block_on(for_caller(&admin).person_link(bob.person, false)).map(drop));
    block_on(for_caller(&admin).person_remove(bob.person, false)).unwrap();
    assert_eq!(names(&root, true), ["ada", "bob"], "he is in the other one still");
    block_on(for_caller(&root).person_remove(bob.person, true)).unwrap();
    assert_eq!(names(&root, true), ["ada"]);
    assert!(block_on(world.engine().server().person_credential("bob")).unwrap().is_none());
}

pub fn a_session_ends_by_time_by_silence_by_number_and_by_what_becomes_of_its_person(backend: impl Backend) {
    let world = World::new(backend);
    let (session, shown) = signed_in(&world, "ada", "first", Role::Admin);
    let caller = Caller::of_session(&session);
    let used = |shown: &str| {
        let session = check(&world, shown).unwrap();
        world.engine().server().person_session_used(&session);
        world.settle();
    };
    // Used in time, it lasts; until its end, however much it is used.
    for _ in 0..SESSION_MS_MAX / SESSION_IDLE_MS_MAX {
        world.pass_ms(SESSION_IDLE_MS_MAX - 1);
        used(&shown);
    }
    assert!(world.now() < session.expires_at);
    world.pass_ms(session.expires_at.since_ms(world.now()));
    assert_eq!(check(&world, &shown), None);
    let sign_in = || block_on(world.engine().server().person_sign_in(session.person, IN)).unwrap();
    let (silent, shown) = sign_in();
    let valid = || block_on(world.engine().server().person_sessions_valid()).unwrap();
    assert!(valid().contains(&silent.id) && !valid().contains(&session.id));
    world.pass_ms(SESSION_IDLE_MS_MAX);
    assert!(check(&world, &shown).is_none() && !valid().contains(&silent.id));

    // Tokens that were made in one end with it.
    let (session, shown) = sign_in();
    let maker = Caller::of_session(&session);
    let wanted = TokenWanted { rights: None, seconds: 900, until: None };
    let grant = world.engine().for_caller(&maker).token_grant(wanted).unwrap();
    assert_eq!(grant.made_from, MadeFrom::Session(session.id));
    let bearer = Caller::of_session_token(&session, Rights::TASKS_READ, grant.expires_at);
    assert_eq!((bearer.kind, bearer.rights, bearer.id), (CallerKind::Token, Rights::TASKS_READ, caller.id));
    let of_number = |id| block_on(world.engine().server().person_session_of_number(id)).unwrap();
    assert_eq!(of_number(session.id).as_ref(), Some(&session));
    block_on(world.engine().for_caller(&caller).person_session_end(session.id, false)).unwrap();
    assert_eq!((check(&world, &shown), of_number(session.id)), (None, None));

    // So many and no more: the one that was used longest ago goes.
    let mut all = Vec::new();
    for _ in 0..=SESSIONS_MAX {
        world.pass_ms(1);
        all.push(sign_in());
    }
    assert!(check(&world, &all[0].1).is_none() && check(&world, &all[1].1).is_some());
    let list = block_on(world.engine().for_caller(&caller).person_session_list(None, false, PAGE)).unwrap();
    assert_eq!((list.total, list.items[0].id), (20, all[20].0.id));

    // Another role, and he signs in again.
    let root = world.engine().for_caller(world.org(0));
    let person = block_on(root.person_role_set(session.person, plain(Role::Viewer))).unwrap();
    assert_eq!(person.role, Role::Viewer);
    assert!(check(&world, &all[20].1).is_none());
    let (viewer, shown) = sign_in();
    assert_eq!(viewer.membership.role, Role::Viewer);
    let own = Caller::of_session(&viewer);
    let list = block_on(world.engine().for_caller(&own).person_session_list(None, false, PAGE)).unwrap();
    assert_eq!(list.items, [viewer], "one's own are seen without a right");
    block_on(root.person_remove(session.person, false)).unwrap();
    assert!(check(&world, &shown).is_none());
}

pub fn the_first_person_is_made_once(backend: impl Backend) {
    let world = World::new(backend);
    let first = || block_on(world.engine().server().person_first("first", "admin")).unwrap();
    let token = first().unwrap();
    assert_eq!(first(), None, "whoever is there may let others in");
    world.pass_ms(OWN_LINK_MS_MAX - 1);
    let taken = block_on(world.engine().server().invitation_take(&token, "hash".to_owned(), IN)).unwrap().0;
    assert_eq!(Caller::of_session(&taken).rights, Rights::ALL);
    assert_eq!(first(), None);
}

pub fn an_account_of_a_provider_is_one_person(backend: impl Backend) {
    let world = World::new(backend);
    let root = world.org(0).clone();
    let server = || world.engine().server();
    let account = |subject: &str| Identity { issuer: "https://a".to_owned(), subject: subject.to_owned() };
    let sign_in = |subject: &str, enrolled: Option<Enrolled>| {
        block_on(server().identity_sign_in(account(subject), enrolled, IN)).map(|(session, _)| session)
    };
    let take = |link: &str, subject: &str| {
        block_on(server().identity_take(link, account(subject), IN)).map(|(session, _)| session)
    };
    let link = |name: &str| add(&world, &root, name, "first", Role::Viewer).unwrap().clear_text.unwrap();
    let enrolled = |name: &str, org: &str, role| {
        let org = OrgWanted::Name(org.to_owned());
        Some(Enrolled { name: name.to_owned(), org, membership: plain(role) })
    };
    let is_unknown = |found: covey_core::Result<PersonSession>| {
        assert!(matches!(found, Err(Error::NotFound { .. })), "{found:?}");
    };
    is_unknown(sign_in("1", None));
    let ada = link("ada");
    is_unknown(take("another", "1"));
    let taken = take(&ada, "1").unwrap();
    is_unknown(take(&ada, "2"));
    let again = sign_in("1", None).unwrap();
    assert_eq!((again.person, again.name.as_str()), (taken.person, "ada"));
    let stolen = take(&link("bob"), "1");
    assert!(matches!(stolen, Err(Error::Conflict { .. })), "{stolen:?}");

    // Whom a provider makes, and what it says next; nobody who is there is taken over.
    is_unknown(sign_in("3", enrolled("grace", "nowhere", Role::Viewer)));
    let taken_over = sign_in("3", enrolled("ada", "first", Role::Admin));
    assert!(matches!(taken_over, Err(Error::Conflict { .. })), "{taken_over:?}");
    let made = sign_in("3", enrolled("grace", "second", Role::Viewer)).unwrap();
    let raised = sign_in("3", enrolled("other", "second", Role::Admin)).unwrap();
    assert_eq!((raised.person, raised.name.as_str()), (made.person, "grace"));
    assert_eq!(raised.membership.role, Role::Admin);
    let numbers = block_on(server().person_sessions_valid()).unwrap();
    assert!(numbers.contains(&raised.id) && !numbers.contains(&made.id), "as what it was before");
    block_on(world.engine().for_caller(&root).person_remove(made.person, true)).unwrap();
    is_unknown(sign_in("3", None));
}
