//! What is read of webhooks of a store around a store.

use covey_core::access::Caller;
use covey_core::id::{DeviceKey, RecordNumber};
use covey_core::port::Found;
use covey_core::record::Record;
use covey_core::webhook::{
    AttemptsFrom, Claim, Claimable, DeadLetter, Endpoint, EndpointId, EndpointState, EndpointTrouble,
    HeldEndpoint, LoggedAttempt, QueuedDeliveries, StoredDeviceQueue, WebhookReader,
};

use super::store::WatchedStore;

impl WebhookReader for WatchedStore {
    fn webhook_list(&self, caller: &Caller) -> Found<'_, Vec<(Endpoint, EndpointState)>> {
        self.inner.webhook_list(caller)
    }

    fn webhook_attempts(
        &self,
        caller: &Caller,
        id: EndpointId,
        from: AttemptsFrom,
    ) -> Found<'_, Vec<LoggedAttempt>> {
        self.inner.webhook_attempts(caller, id, from)
    }

    fn webhook_dead_letters(
        &self,
        caller: &Caller,
        id: EndpointId,
        from: AttemptsFrom,
    ) -> Found<'_, Vec<DeadLetter>> {
        self.inner.webhook_dead_letters(caller, id, from)
    }

    fn webhook_dead_letter(
        &self,
        caller: &Caller,
        id: EndpointId,
        number: RecordNumber,
    ) -> Found<'_, Option<DeadLetter>> {
        self.inner.webhook_dead_letter(caller, id, number)
    }

    fn webhook_claimable_of_every_org(&self) -> Found<'_, Vec<Claimable>> {
        self.inner.webhook_claimable_of_every_org()
    }

    fn webhook_held_of_every_org(&self, claim: Claim, ids: Vec<EndpointId>) -> Found<'_, Vec<HeldEndpoint>> {
        self.inner.webhook_held_of_every_org(claim, ids)
    }

    fn webhook_device_queues_of_every_org(&self, id: EndpointId) -> Found<'_, Vec<StoredDeviceQueue>> {
        self.inner.webhook_device_queues_of_every_org(id)
    }

    fn webhook_queued_deliveries_of_every_org(
        &self,
        id: EndpointId,
        device_queues: Vec<(DeviceKey, RecordNumber)>,
        limit: u32,
    ) -> Found<'_, Vec<QueuedDeliveries>> {
        self.inner.webhook_queued_deliveries_of_every_org(id, device_queues, limit)
    }

    fn webhook_record_of_every_org(&self, id: EndpointId, number: RecordNumber) -> Found<'_, Option<Record>> {
        self.inner.webhook_record_of_every_org(id, number)
    }

    fn webhook_states_of_every_org(&self) -> Found<'_, Vec<(EndpointId, EndpointState)>> {
        self.inner.webhook_states_of_every_org()
    }

    fn webhook_troubles_of_every_org(&self) -> Found<'_, Vec<EndpointTrouble>> {
        self.inner.webhook_troubles_of_every_org()
    }
}
