//! Webhooks of a site that is moved, and what can be seen of them.

use std::sync::Arc;

use covey_core::id::{CallerId, OrgId, RecordNumber, UnixMs};
use covey_core::port::Store;
use covey_core::record::{RecordReader, RecordRequest};
use covey_core::webhook::circuit::CircuitState;
use covey_core::webhook::{
    AttemptLog, AttemptsFrom, Claim, Delivery, DeliveryState, EndpointId, EndpointSpec, Outcome, Progress,
    StoredDelivery, WebhookSecret, WebhookType,
};
use futures_executor::block_on;

use crate::world::World;
use crate::world::steps::run;

/// Gives each organisation an endpoint, with a delivery for each record that
/// there is: some wait, and some are dead.
pub fn fill(world: &World) {
    for org in [0, 1] {
        let org = world.org(org).org;
        let mut spec = EndpointSpec::new(WebhookType::Event, "https://receiver.example/hook");
        spec.device_id_in_path = true;
        spec.filter.tags.push(("a\0b \u{1f4a1}".to_owned(), Some("\"".to_owned())));
        let id = run(world, move |tx| {
            let id = tx.webhook_insert(org, &spec, &WebhookSecret::new("whsec_x"), true)?;
            let mut endpoint = tx.webhook(org, id)?.unwrap();
            endpoint.old_secret = Some((endpoint.secret.clone(), UnixMs(77)));
            tx.webhook_update(&endpoint, false)?;
            Ok(id)
        });
        let claim = Claim { server: "server-1".to_owned(), nonce: -7 };
        let progress = progress(world, org);
        run(world, move |tx| {
            tx.webhook_claim(&claim, &[id], UnixMs(99))?;
            tx.webhook_progress(&claim, id, UnixMs(100), &progress)
        });
        run(world, move |tx| tx.webhook_resend(id, None, UnixMs(55), 3));
    }
}

fn progress(world: &World, org: OrgId) -> Progress {
    let request = RecordRequest {
        org: Some(org),
        after: RecordNumber(0),
        until: None,
        limit: 1_000,
        bytes_max: usize::MAX,
        with_tags: false,
    };
    let records = block_on(world.store().record_list_of_every_org(request)).unwrap().records;
    let mut progress = Progress {
        circuit: CircuitState { open_since: Some(UnixMs(7)), failures: 5 },
        last_error: Some(Arc::from("status 500")),
        ..Progress::default()
    };
    for (place, record) in (0_u32..).zip(records) {
        let identity = &record.device.identity;
        let delivery = Delivery {
            number: record.number,
            device: identity.device,
            device_id: identity.device_id,
            deadline: UnixMs(place.into()),
            attempts: place,
            next_at: UnixMs(7),
        };
        let is_dead = place % 3 == 0;
        let state = if is_dead { DeliveryState::Dead } else { DeliveryState::Deferred };
        let status = (place % 2 == 0).then_some(500);
        let error = is_dead.then(|| Arc::from("no connection"));
        progress.deliveries.insert(record.number, Some(StoredDelivery { delivery, state, status, error }));
        progress.attempts.push(AttemptLog {
            number: is_dead.then_some(record.number),
            device_id: Some(identity.device_id),
            attempt: 1,
            at: record.at,
            duration_ms: 3,
            status,
            error: None,
            outcome: Outcome::Retry,
        });
    }
    progress
}

/// What can be seen of them.
pub fn seen(store: &dyn Store) -> Vec<String> {
    let mut seen = Vec::new();
    for org in 1..=3 {
        let caller = &crate::world::caller(OrgId(org), CallerId(1));
        for (endpoint, state) in block_on(store.webhook_list(caller)).unwrap() {
            let id = endpoint.id;
            let from = AttemptsFrom { limit: 10_000, ..AttemptsFrom::default() };
            let log = block_on(store.webhook_attempts(caller, id, from)).unwrap();
            let dead = block_on(store.webhook_dead_letters(caller, id, from)).unwrap();
            assert!(!log.is_empty() && !dead.is_empty());
            let secrets = (endpoint.secret.exposed().to_owned(), endpoint.spec.headers.0.clone());
            seen.push(format!("webhook of {org}: {endpoint:?} {secrets:?} {state:?} {log:?} {dead:?}"));
            seen.push(format!("deliveries of {org}: {:?}", waiting(store, id)));
        }
    }
    seen.push(format!("claimable: {:?}", block_on(store.webhook_claimable_of_every_org()).unwrap()));
    seen
}

fn waiting(store: &dyn Store, id: EndpointId) -> Vec<Vec<Delivery>> {
    let mut device_queues = block_on(store.webhook_device_queues_of_every_org(id)).unwrap();
    device_queues.sort_by_key(|device_queue| device_queue.device);
    let after = device_queues.iter().map(|device_queue| (device_queue.device, RecordNumber(0))).collect();
    let found = block_on(store.webhook_queued_deliveries_of_every_org(id, after, 1_000)).unwrap();
    found.into_iter().map(|device_queue| device_queue.deliveries).collect()
}
