//! What is read of webhooks of a store around a store.

use covey_core::access::Caller;
use covey_core::error::Result;
use covey_core::id::{DeviceKey, RecordNumber};
use covey_core::port::BoxFuture;
use covey_core::record::Record;
use covey_core::webhook::{
    Claim, Claimable, DeadLetter, DeliveriesFrom, Endpoint, EndpointId, EndpointState, HeldEndpoint,
    LaneLetters, LoggedAttempt, StoredLane, WebhookReader,
};

use super::store::WatchedStore;

impl WebhookReader for WatchedStore {
    fn webhook_list(&self, caller: &Caller) -> BoxFuture<'_, Result<Vec<(Endpoint, EndpointState)>>> {
        self.inner.webhook_list(caller)
    }

    fn webhook_deliveries(
        &self,
        caller: &Caller,
        id: EndpointId,
        from: DeliveriesFrom,
    ) -> BoxFuture<'_, Result<Vec<LoggedAttempt>>> {
        self.inner.webhook_deliveries(caller, id, from)
    }

    fn webhook_dead_letters(
        &self,
        caller: &Caller,
        id: EndpointId,
        from: DeliveriesFrom,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>>> {
        self.inner.webhook_dead_letters(caller, id, from)
    }

    fn webhook_dead_letter(
        &self,
        caller: &Caller,
        id: EndpointId,
        number: RecordNumber,
    ) -> BoxFuture<'_, Result<Option<DeadLetter>>> {
        self.inner.webhook_dead_letter(caller, id, number)
    }

    fn webhook_claimable_of_every_org(&self) -> BoxFuture<'_, Result<Vec<Claimable>>> {
        self.inner.webhook_claimable_of_every_org()
    }

    fn webhook_held_of_every_org(
        &self,
        claim: Claim,
        ids: Vec<EndpointId>,
    ) -> BoxFuture<'_, Result<Vec<HeldEndpoint>>> {
        self.inner.webhook_held_of_every_org(claim, ids)
    }

    fn webhook_lanes_of_every_org(&self, id: EndpointId) -> BoxFuture<'_, Result<Vec<StoredLane>>> {
        self.inner.webhook_lanes_of_every_org(id)
    }

    fn webhook_letters_of_every_org(
        &self,
        id: EndpointId,
        lanes: Vec<(DeviceKey, RecordNumber)>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<LaneLetters>>> {
        self.inner.webhook_letters_of_every_org(id, lanes, limit)
    }

    fn webhook_record_of_every_org(
        &self,
        id: EndpointId,
        number: RecordNumber,
    ) -> BoxFuture<'_, Result<Option<Record>>> {
        self.inner.webhook_record_of_every_org(id, number)
    }

    fn webhook_states_of_every_org(&self) -> BoxFuture<'_, Result<Vec<(EndpointId, EndpointState)>>> {
        self.inner.webhook_states_of_every_org()
    }
}
