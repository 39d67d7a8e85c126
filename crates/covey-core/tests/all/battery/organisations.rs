//! Organisations.

use covey_core::access::{Caller, Rights};
use covey_core::id::OrgId;
use covey_core::port::PageRequest;
use covey_core::{Error, ForCaller};
use futures_executor::block_on;

use crate::world::{Backend, World};

const PAGE: PageRequest = PageRequest { page: 1, size: 100 };

fn names(caller: ForCaller<'_>) -> Vec<(String, u64, u64)> {
    let page = block_on(caller.org_list(PAGE)).unwrap();
    assert_eq!(page.total, page.items.len() as u64);
    page.items.into_iter().map(|org| (org.name, org.devices, org.keys)).collect()
}

pub fn organisations_are_made_renamed_and_seen_by_who_keeps_them(backend: impl Backend) {
    let mut world = World::new(backend);
    world.device(0);
    let root = world.engine().for_caller(world.org(0));
    let third = block_on(root.org_add("third")).unwrap();
    assert_eq!((third.devices, third.keys), (0, 0));
    let taken = block_on(root.org_add("second")).map(|org| org.id);
    assert!(matches!(taken, Err(Error::Conflict { .. })), "{taken:?}");
    assert!(matches!(block_on(root.org_add("")), Err(Error::Invalid { field: "name", .. })));
    let taken = block_on(root.org_rename(third.id, "second")).map(|org| org.id);
    assert!(matches!(taken, Err(Error::Conflict { .. })), "{taken:?}");
    assert_eq!(block_on(root.org_rename(third.id, "third")).unwrap(), third, "its own name");
    block_on(root.org_rename(third.id, "fourth")).unwrap();
    assert_eq!(block_on(root.org_rename(OrgId(99), "x")), Err(Error::not_found("organisation")));
    world.restart();
    let root = world.engine().for_caller(world.org(0));
    let all = [("first".to_owned(), 1, 1), ("second".to_owned(), 0, 1), ("fourth".to_owned(), 0, 0)];
    assert_eq!(names(root), all);
    let page = block_on(root.org_list(PageRequest { page: 2, size: 2 })).unwrap();
    assert_eq!((page.total, page.items[0].id), (3, third.id));

    let keeper = Caller { rights: Rights::KEYS_WRITE, ..world.org(1).clone() };
    let keeper = world.engine().for_caller(&keeper);
    assert_eq!(names(keeper), all[1..2], "its own alone");
    assert_eq!(block_on(keeper.org_get(third.id)), Err(Error::not_found("organisation")));
    assert_eq!(block_on(keeper.org_rename(third.id, "mine")), Err(Error::not_found("organisation")));
    assert_eq!(block_on(keeper.org_get(world.org(1).org)).unwrap().name, "second");
    let forbidden = Err(Error::Forbidden { right: "orgs:admin" });
    assert_eq!(block_on(keeper.org_rename(world.org(1).org, "mine")), forbidden);
    assert_eq!(block_on(keeper.org_add("mine")), forbidden);
}
