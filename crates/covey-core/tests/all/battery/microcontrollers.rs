//! Microcontrollers: whose names they are, their certificates, and what they are told.

use covey_core::Error;
use covey_core::certificate::RevocationReason;
use covey_core::device::{CertificateSpec, DeviceFilter, DeviceIdentity, DeviceKind, DeviceSpec};
use covey_core::id::Sn;
use covey_core::microcontroller::{
    ANSWER_MS_MAX, AnswerKey, Api, CERTIFICATES_MAX, MicrocontrollerCall, Request,
};
use covey_core::task::{TaskSpec, TaskStatus};
use futures_executor::block_on;

use crate::world::{Backend, World, result, spec};

fn sn(text: &str) -> Sn {
    Sn::parse(text).unwrap()
}

/// Registers one; answers who it is, and the serial number of its certificate.
fn registered(world: &World, org: usize, name: &str) -> Result<(DeviceIdentity, String), Error> {
    let caller = world.engine().for_caller(world.org(org));
    block_on(async {
        caller.microcontroller_may_register(&sn(name)).await?;
        let issued = caller.microcontroller_certificate(&sn(name))?;
        let device = caller.microcontroller_register(sn(name), &issued).await?;
        Ok((device, issued.record.serial_hex))
    })
}

fn kind(world: &World, name: &str, serial: &str) -> Option<DeviceKind> {
    let admitted = block_on(world.engine().server().session_admit(&sn(name), serial)).unwrap();
    admitted.map(|admission| admission.kind)
}

fn next(world: &World, device: &DeviceIdentity, busy: &[AnswerKey]) -> Option<MicrocontrollerCall> {
    block_on(world.engine().for_device(device).microcontroller_next(busy.to_vec(), true)).unwrap()
}

fn call(device: &DeviceIdentity, method: &str, payload: &str) -> TaskSpec {
    TaskSpec { method: Some(method.to_owned()), payload: Some(payload.into()), ..spec(device) }
}

pub fn a_name_is_that_of_a_microcontroller_or_of_another_device_and_stays_so(backend: impl Backend) {
    let mut world = World::new(backend);
    let (device, serial) = registered(&world, 0, "ft1").unwrap();
    let named = |name| DeviceSpec { sn: Some(sn(name)), ..DeviceSpec::default() };
    let (other, other_serial) = world.register(0, named("lamp")).unwrap();
    let node = DeviceSpec { certificate: CertificateSpec::None, ..named("sensor") };
    block_on(world.engine().for_caller(world.org(0)).device_register(node)).unwrap();
    world.restart();
    assert_eq!(kind(&world, "ft1", &serial), Some(DeviceKind::Microcontroller));
    assert_eq!(kind(&world, "lamp", &other_serial), Some(DeviceKind::Ordinary));
    assert_eq!(world.register(0, named("ft1")).unwrap_err(), Error::SnTaken);
    // A broker that checks certificates itself knows those that speak of tasks alone.
    let server = world.engine().server();
    assert_eq!(block_on(server.device_of_sn(&sn("ft1"))).unwrap(), None);
    assert_eq!(block_on(server.device_sns(None, 10)).unwrap(), [sn("lamp")]);
    assert_eq!(block_on(server.device_of_name(&sn("ft1"))).unwrap().unwrap().identity, device);

    let is_conflict = |outcome: Result<(), Error>| matches!(outcome, Err(Error::Conflict { .. }));
    for (org, name) in [(0, "lamp"), (0, "sensor"), (1, "ft1"), (1, "lamp")] {
        let caller = world.engine().for_caller(world.org(org));
        assert!(is_conflict(registered(&world, org, name).map(drop)), "{name}");
        let issued = caller.microcontroller_certificate(&sn(name)).unwrap();
        // Also where it was free when that was looked at.
        assert!(
            is_conflict(block_on(caller.microcontroller_register(sn(name), &issued)).map(drop)),
            "{name}"
        );
        assert!(is_conflict(block_on(caller.microcontroller(&sn(name))).map(drop)), "{name}");
        assert!(is_conflict(block_on(caller.microcontroller_retire(sn(name))).map(drop)), "{name}");
    }
    let own = world.engine().for_caller(world.org(0));
    assert!(is_conflict(block_on(own.microcontroller(&sn("nobody"))).map(drop)));
    assert_eq!(block_on(own.microcontroller(&sn("ft1"))).unwrap().identity(), &device);
    assert_eq!(world.devices(0, DeviceFilter::default()).total, 3);
    assert_eq!(kind(&world, "lamp", &other_serial), Some(DeviceKind::Ordinary));

    assert_eq!(block_on(own.microcontroller_retire(sn("ft1"))).unwrap(), device);
    assert_eq!(kind(&world, "ft1", &serial), None);
    assert_eq!(world.link.revoked(), [sn("ft1")]);
    let (anew, new_serial) = registered(&world, 0, "ft1").unwrap();
    assert_ne!((anew.device, anew.device_id), (device.device, device.device_id));
    assert_eq!(kind(&world, "ft1", &serial), None);
    assert_eq!(kind(&world, "ft1", &new_serial), Some(DeviceKind::Microcontroller));
    assert!(world.device(0) != anew && other.identity.sn == sn("lamp"));
}

pub fn each_registration_adds_a_certificate_and_the_newest_stay_good(backend: impl Backend) {
    let world = World::without_budgets(backend);
    let mut serials = Vec::new();
    for _ in 0..CERTIFICATES_MAX + 3 {
        world.pass_ms(1_000);
        serials.push(registered(&world, 0, "ft1").unwrap().1);
    }
    let good: Vec<_> = serials.iter().map(|serial| kind(&world, "ft1", serial).is_some()).collect();
    let expected: Vec<_> = (0..serials.len()).map(|place| place >= 3).collect();
    assert_eq!(good, expected);
    // Whoever asks after one that is good no more is told so.
    let told = world.link.revoked_certificates();
    for serial in &serials[..3] {
        let found = block_on(world.engine().for_caller(world.org(0)).certificate(serial)).unwrap();
        assert_eq!(found.revocation.map(|one| one.reason), Some(RevocationReason::Superseded));
        assert!(told.contains(&(sn("ft1"), serial.clone())));
    }
}

pub fn a_microcontroller_is_told_of_one_call_at_a_time_for_each_answer(backend: impl Backend) {
    let world = World::new(backend);
    let (device, _) = registered(&world, 0, "ft1").unwrap();
    let pin = |number| AnswerKey { api: Api::GetGpio, number: Some(number) };
    let clock = AnswerKey { api: Api::GetRtc, number: None };
    let ids: Vec<_> = [
        call(&device, "get_gpio", r#"{"number":"12"}"#),
        call(&device, "get_gpio", r#"{"number":12}"#),
        call(&device, "get_gpio", r#"{"number":13}"#),
        call(&device, "get_rtc", "{}"),
    ]
    .map(|spec| world.create(spec).id)
    .into();
    let first = next(&world, &device, &[]).unwrap();
    assert_eq!((first.task, first.key), (ids[0], pin(12)));
    assert_eq!(first.request.parameters, r#"{"number": 12}"#);
    assert_eq!(world.get(ids[0]).task.status, TaskStatus::Lock);
    let second = next(&world, &device, &[first.key]).unwrap();
    assert_eq!((second.task, second.key), (ids[2], pin(13)));
    let third = next(&world, &device, &[first.key, second.key]).unwrap();
    assert_eq!((third.task, third.key), (ids[3], clock));
    assert_eq!(next(&world, &device, &[pin(12), pin(13), clock]), None);
    world.finish(&device, ids[0], result(200, 0, r#"{"value": 1}"#)).unwrap();
    assert_eq!(next(&world, &device, &[pin(13), clock]).unwrap().task, ids[1]);
    // Where answers name no pin, the other one waits as well.
    let ids = [14, 15]
        .map(|number| world.create(call(&device, "get_gpio", &format!(r#"{{"number":{number}}}"#))).id);
    let engine = world.engine();
    let unnumbered = |busy| block_on(engine.for_device(&device).microcontroller_next(busy, false)).unwrap();
    let any = AnswerKey { api: Api::GetGpio, number: None };
    assert_eq!(unnumbered(vec![any]), None);
    assert_eq!(unnumbered(Vec::new()).map(|call| (call.task, call.key)), Some((ids[0], any)));
}

pub fn what_no_microcontroller_can_do_ends_at_once_and_says_why(backend: impl Backend) {
    let world = World::new(backend);
    let (device, _) = registered(&world, 0, "ft1").unwrap();
    let cannot: Vec<_> = [
        (call(&device, "blink", "{}"), 501),
        (call(&device, "set", r#"{"led":1}"#), 501),
        (TaskSpec { method: None, ..spec(&device) }, 501),
        (call(&device, "get_gpio", "{}"), 400),
        (call(&device, "set_gpio", r#"{"number":1}"#), 400),
        (call(&device, "set_rtc", "[]"), 400),
    ]
    .into_iter()
    .map(|(spec, code)| (world.create(spec).id, code))
    .collect();
    let can = world.create(call(&device, "get_status", "{}")).id;
    assert_eq!(next(&world, &device, &[]).unwrap().task, can);
    for (id, code) in cannot {
        let ended = world.get(id);
        assert_eq!(ended.task.status, TaskStatus::Failed);
        assert_eq!(ended.results[0].result.status_code, code);
    }
}

pub fn a_call_that_was_left_is_not_made_again_and_comes_before_every_later_one(backend: impl Backend) {
    let world = World::new(backend);
    let (device, _) = registered(&world, 0, "ft1").unwrap();
    let restart = call(&device, "set_status", r#"{"status":"restart"}"#);
    let (left, other) = (world.create(restart.clone()).id, world.create(call(&device, "get_rtc", "{}")).id);
    let told = next(&world, &device, &[]).unwrap();
    assert_eq!(told.task, left);
    // As long as its answer is waited for it is under way.
    let later = world.create(restart).id;
    assert_eq!(next(&world, &device, &[told.key]).unwrap().task, other);
    assert_eq!(world.get(left).task.status, TaskStatus::Lock);
    let clock = AnswerKey { api: Api::GetRtc, number: None };
    assert_eq!(next(&world, &device, &[clock]).unwrap().task, later);
    let ended = world.get(left);
    assert_eq!((ended.task.status, ended.results[0].result.status_code), (TaskStatus::Failed, 504));
    assert_eq!(ended.task.deliveries, 1);
}

pub fn a_call_lives_as_long_as_an_answer_is_waited_for(backend: impl Backend) {
    let world = World::new(backend);
    let (device, _) = registered(&world, 0, "ft1").unwrap();
    let caller = world.engine().for_caller(world.org(0));
    let own = block_on(caller.microcontroller(&sn("ft1"))).unwrap();
    let request = Request::read(Api::GetStatus, None).unwrap();
    let id = world.engine().task_id();
    let made = caller.microcontroller_call(id, &own, request).unwrap();
    assert_eq!(block_on(made.created()).unwrap().task.id, id);
    let task = world.get(id).task;
    assert_eq!(task.expires_at.since_ms(task.created_at), ANSWER_MS_MAX);
    assert_eq!((task.method.as_deref(), task.payload.as_deref()), (Some("get_status"), Some("{}")));
    world.pass_ms(1_000);
    assert_eq!(next(&world, &device, &[]).unwrap().left_ms, ANSWER_MS_MAX - 1_000);
    world.pass_ms(ANSWER_MS_MAX - 1_000);
    assert_eq!(world.get(id).task.status_at(world.now()), TaskStatus::Expired);
}
