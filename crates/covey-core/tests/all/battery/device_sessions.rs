//! What is kept of devices' sessions.

use std::thread;

use covey_core::device::DeviceSpec;
use covey_core::device_session::{SessionContent, StoredSession, Subscription};
use covey_core::id::Sn;
use futures_executor::block_on;

use crate::world::{Backend, World, connection};

fn content(filters: &[&str], expiry_s: u32) -> SessionContent {
    let one = |(filter, qos): (&&str, u8)| Subscription {
        filter: (*filter).to_owned(),
        qos,
        identifier: u32::from(qos) * 100_000_000,
    };
    SessionContent { subscriptions: filters.iter().zip([1, 2, 0]).map(one).collect(), expiry_s }
}

struct Kept {
    sn: Sn,
    serial: String,
    device: covey_core::device::DeviceIdentity,
}

impl Kept {
    fn new(world: &World) -> Self {
        let (device, serial) = world.register(0, DeviceSpec::default()).unwrap();
        Self { sn: device.identity.sn.clone(), serial, device: device.identity }
    }

    fn put(&self, world: &World, before: i64, content: SessionContent) -> Option<i64> {
        block_on(world.engine().for_device(&self.device).session_put(before, content)).unwrap()
    }

    fn read(&self, world: &World) -> Option<StoredSession> {
        world.settle();
        let found = block_on(world.engine().server().session_admit(&self.sn, &self.serial)).unwrap().unwrap();
        assert_eq!(found.identity, self.device);
        found.session
    }
}

pub fn a_session_comes_back_as_it_was_kept(backend: impl Backend) {
    let mut world = World::new(backend);
    let (kept, other) = (Kept::new(&world), Kept::new(&world));
    assert_eq!(kept.read(&world), None);
    let all = content(&["srv/a/+", "srv/ä \"b\"/#", ""], 3_600);
    assert_eq!(kept.put(&world, 0, all.clone()), Some(1));
    world.restart();
    let stored = kept.read(&world).unwrap();
    assert_eq!((stored.revision, stored.content), (1, all));
    assert_eq!(other.read(&world), None);
    assert_eq!(kept.put(&world, 1, SessionContent::ENDED), Some(2));
    let stored = kept.read(&world).unwrap();
    assert_eq!((stored.revision, stored.content), (2, SessionContent::ENDED));
}

pub fn a_session_that_somebody_has_changed_is_not_changed_again(backend: impl Backend) {
    let world = World::new(backend);
    let kept = Kept::new(&world);
    let of = |filter| content(&[filter], 60);
    assert_eq!(kept.put(&world, 4, of("never")), None);
    assert_eq!(kept.put(&world, 0, of("a")), Some(1));
    for before in [0, 2] {
        assert_eq!(kept.put(&world, before, of("b")), None);
    }
    assert_eq!(kept.read(&world).unwrap().content, of("a"));
    // Of many that follow the same revision one is first, within a group and beside it.
    let first: Vec<_> = thread::scope(|scope| {
        let put = |_| scope.spawn(|| kept.put(&world, 1, of("c")));
        let putting: Vec<_> = (0..8).map(put).collect();
        putting.into_iter().filter_map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(first, [2]);
}

pub fn a_session_ends_when_its_device_was_away_for_its_time(backend: impl Backend) {
    let mut world = World::new(backend);
    let kept = Kept::new(&world);
    let is_over = |world: &World| {
        let session = kept.read(world).unwrap();
        world.engine().server().session_is_over(&session)
    };
    world.engine().for_device(&kept.device).connected(connection("a"));
    kept.put(&world, 0, content(&["x"], 60));
    world.pass_ms(3_600_000);
    assert!(!is_over(&world), "it is connected");
    world.engine().for_device(&kept.device).disconnected(connection("a"));
    world.settle();
    world.pass_ms(59_999);
    assert!(!is_over(&world));
    world.pass_ms(1);
    assert!(is_over(&world));
    // When the server was killed, the time begins with its start.
    world.engine().for_device(&kept.device).connected(connection("b"));
    world.settle();
    world.pass_ms(3_600_000);
    world.restart();
    world.pass_ms(59_999);
    assert!(!is_over(&world));
    world.pass_ms(1);
    assert!(is_over(&world));
}

pub fn a_session_goes_with_its_device(backend: impl Backend) {
    let world = World::new(backend);
    let kept = Kept::new(&world);
    kept.put(&world, 0, content(&["x"], 60));
    block_on(world.engine().for_caller(world.org(0)).device_retire(kept.device.device_id)).unwrap();
    assert_eq!(kept.put(&world, 1, content(&["y"], 60)), None);
    assert_eq!(kept.put(&world, 0, content(&["y"], 60)), None);
    let spec = DeviceSpec { sn: Some(kept.sn.clone()), ..DeviceSpec::default() };
    let (device, serial) = world.register(0, spec).unwrap();
    assert_eq!(Kept { sn: kept.sn, serial, device: device.identity }.read(&world), None);
}

pub fn what_is_kept_of_a_session_is_bounded(backend: impl Backend) {
    let world = World::new(backend);
    let kept = Kept::new(&world);
    let many = |count: usize, bytes: usize| {
        let one = Subscription { filter: "f".repeat(bytes), qos: 1, identifier: 0 };
        SessionContent { subscriptions: vec![one; count], expiry_s: 3_600 }
    };
    let put = |content| block_on(world.engine().for_device(&kept.device).session_put(0, content));
    for beyond in [many(17, 1), many(1, 4_097), SessionContent { expiry_s: 3_601, ..many(1, 1) }] {
        assert!(put(beyond).is_err());
    }
    assert_eq!(kept.read(&world), None);
    assert_eq!(put(many(16, 256)).unwrap(), Some(1));
    assert_eq!(kept.read(&world).unwrap().content, many(16, 256));
}
