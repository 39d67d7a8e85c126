//! Weighing what devices and applications ask.

use crate::budget::Weight;
use crate::engine::{ForCaller, ForDevice, ForServer};
use crate::error::{Error, Result};
use crate::id::OrgId;
use crate::port::{Event, Refusal, Room};

const ORG_LIMIT: &str = "the devices and keys of the organisation ask more than they may";

impl ForDevice<'_> {
    /// Weighs what the device has sent, before anything is done with it.
    ///
    /// # Errors
    /// [`Error::OverBudget`]: the device, or its organisation, has nothing left. That is counted here.
    pub fn charge(self, weight: Weight) -> Result<()> {
        self.heard();
        let engine = self.engine;
        let now_us = engine.parts.clock.monotonic_us();
        let (device, org) = (self.device.device.0, self.device.org.0);
        let refused = |reason, limit| {
            engine.after_commit.count(Event::Refused(reason));
            Err(Error::OverBudget { limit })
        };
        if engine.meters.device.charge(device, weight, now_us).is_err() {
            return refused(Refusal::Flood, "the device sends more than it may");
        }
        if engine.meters.org.charge(org, weight, now_us).is_err() {
            engine.meters.device.give_back(device, weight);
            return refused(Refusal::Budget, ORG_LIMIT);
        }
        Ok(())
    }

    /// Weighs what is done already, or was refused.
    pub fn charge_after(self, weight: Weight) {
        self.heard();
        let now_us = self.engine.parts.clock.monotonic_us();
        self.engine.meters.device.add(self.device.device.0, weight, now_us);
        self.engine.meters.org.add(self.device.org.0, weight, now_us);
    }

    /// Gives a weight back of what the store did not take and is tried again.
    pub fn give_back(self, weight: Weight) {
        self.engine.meters.device.give_back(self.device.device.0, weight);
        self.engine.meters.org.give_back(self.device.org.0, weight);
    }

    /// For how many microseconds nothing should be read of the device, so that it need not be refused; 0: it
    /// may be read.
    #[must_use]
    pub fn hold_us(self) -> u64 {
        let now_us = self.engine.parts.clock.monotonic_us();
        let of_device = self.engine.meters.device.hold_us(self.device.device.0, now_us);
        of_device.max(self.engine.meters.org.hold_us(self.device.org.0, now_us))
    }

    /// The same for what has no answer by which it could be refused.
    #[must_use]
    pub fn lack_us(self) -> u64 {
        self.engine.meters.device.lack_us(self.device.device.0, self.engine.parts.clock.monotonic_us())
    }
}

impl ForServer<'_> {
    /// Weighs what is asked in the name of an organisation by nobody who has a budget of his own.
    pub(crate) fn charge_org(self, org: OrgId, weight: Weight) -> Result<()> {
        let engine = self.engine;
        if engine.meters.org.charge(org.0, weight, engine.parts.clock.monotonic_us()).is_err() {
            engine.after_commit.count(Event::Refused(Refusal::Budget));
            return Err(Error::OverBudget { limit: ORG_LIMIT });
        }
        Ok(())
    }
}

impl ForCaller<'_> {
    /// Weighs what an application asks, before anything is done.
    pub(crate) fn charge(self, weight: Weight) -> Result<()> {
        let engine = self.engine;
        let now_us = engine.parts.clock.monotonic_us();
        let (key, org) = (self.caller.id.0, self.caller.org.0);
        let refused = |limit| {
            engine.after_commit.count(Event::Refused(Refusal::Budget));
            Err(Error::OverBudget { limit })
        };
        if engine.meters.key.charge(key, weight, now_us).is_err() {
            return refused("the API key asks more than it may");
        }
        if engine.meters.org.charge(org, weight, now_us).is_err() {
            engine.meters.key.give_back(key, weight);
            return refused(ORG_LIMIT);
        }
        Ok(())
    }

    /// Weighs what an application takes back. That is refused only while no room is left: then who asks again and again
    /// would fill what is kept for it with entries of the audit log.
    pub(crate) fn charge_relief(self, weight: Weight) -> Result<()> {
        if self.engine.parts.store.room() == Room::Full {
            return self.charge(weight);
        }
        let now_us = self.engine.parts.clock.monotonic_us();
        self.engine.meters.key.add(self.caller.id.0, weight, now_us);
        self.engine.meters.org.add(self.caller.org.0, weight, now_us);
        Ok(())
    }
}
