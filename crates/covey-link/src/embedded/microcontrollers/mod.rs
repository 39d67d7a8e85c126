//! Microcontrollers that are connected to the embedded broker: to the core a link of its own, which tells a device of a
//! call by one message of QoS 0 and ends the task with the answer
//! (`docs/adr/0029-microcontrollers-over-http.md`).

mod calls;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use covey_core::Engine;
use covey_core::budget::Weight;
use covey_core::device::DeviceIdentity;
use covey_core::id::{Sn, TaskId};
use covey_core::microcontroller::{
    ANSWER_BYTES_MAX, ANSWER_LEVELS_MAX, ANSWER_MS_MAX, AnswerKey, Api, MicrocontrollerCall,
};
use covey_core::port::{Announcement, BoxFuture, Link, Refusal};
use covey_core::task::{NewResult, ResultBody};
use covey_wire::microcontroller::{Published, Topics, read_answer};
use covey_wire::mqtt::session::{Message, Sent};
use covey_wire::mqtt::{Place, PropertyList, Qos};
use tokio::runtime::Handle;

use crate::dispatch::{Refused, RefusedKind};
use crate::embedded::EmbeddedLink;
use crate::embedded::delivery::NO_TOKEN;
use calls::{Ask, Calls};

/// The name of this link.
pub const NAME: &str = "mcu";

/// Said of a call that was answered.
const OK: i64 = 200;
/// Said of a call that was not (RFC 9110 §15.6.5).
const GATEWAY_TIMEOUT: i64 = 504;
/// Why, for whoever made the call.
const NO_ANSWER: &str = "the device was told and did not answer within 5 s";

/// The way from the core to the microcontrollers that are connected here.
pub struct Microcontrollers {
    topics: Topics,
    embedded: Weak<EmbeddedLink>,
    /// Set when the broker starts.
    at_work: OnceLock<AtWork>,
    calls: Mutex<Calls>,
    this: Weak<Self>,
}

/// With what it works. The engine has the link, and not the other way round.
struct AtWork {
    engine: Weak<Engine>,
    runtime: Handle,
}

/// An answer that was read, and the task that it ends.
pub(super) struct Opened {
    task: TaskId,
    result: NewResult,
}

impl Microcontrollers {
    pub(super) fn new(embedded: &Weak<EmbeddedLink>, prefix: Option<&str>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            topics: Topics::new(prefix),
            embedded: Weak::clone(embedded),
            at_work: OnceLock::new(),
            calls: Mutex::default(),
            this: Weak::clone(this),
        })
    }

    /// Begins to work, in the runtime in which this is called.
    pub(super) fn begin(&self, engine: &Arc<Engine>) {
        let _ = self.at_work.set(AtWork { engine: Arc::downgrade(engine), runtime: Handle::current() });
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // What it guards is whole at every moment.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a subscription of a device lets a call through; none if the device may not subscribe there.
    pub(super) fn subscription_reaches(&self, sn: &Sn, filter: &str) -> Option<bool> {
        let apis = Api::ALL.map(Api::name);
        self.topics.subscription_reaches(sn.as_str(), filter, &apis)
    }

    /// Whether a device may publish there.
    pub(super) fn may_publish(&self, sn: &Sn, topic: &str) -> bool {
        self.topics.published(sn.as_str(), topic) != Published::Foreign
    }

    /// A microcontroller listens.
    pub(super) fn listens(&self, device: &DeviceIdentity) {
        let ask = self.calls().listens(device);
        self.begin_asking(ask);
    }

    /// It listens no longer.
    pub(super) fn gone(&self, device: &DeviceIdentity) {
        self.calls().gone(device);
    }

    /// What a message is, or why it is nothing. A call that is answered is no longer under way.
    pub(super) fn open(
        &self,
        engine: &Engine,
        device: &DeviceIdentity,
        topic: &str,
        body: &[u8],
    ) -> Result<Opened, Refused> {
        let bytes = body.len();
        let (api, number) = match self.topics.published(device.sn.as_str(), topic) {
            Published::Foreign => {
                return Err(refused(
                    Refusal::PublishTopic,
                    RefusedKind::Forbidden,
                    "not a topic of this device",
                ));
            }
            Published::Other => (None, None),
            Published::Answer { api, number } => (Api::from_name(api), number),
        };
        let Some(api) = api else {
            let why = "nothing listens to this topic; it is that of no call";
            return Err(refused(Refusal::UnknownTopic, RefusedKind::Unheard, why));
        };
        if bytes > ANSWER_BYTES_MAX {
            let why = "an answer has at most 65536 bytes";
            return Err(refused(Refusal::ResultTooLarge, RefusedKind::Limit, why));
        }
        let text = read_answer(body, ANSWER_LEVELS_MAX)?;
        engine.for_device(device).charge(Weight::result(bytes))?;
        let key = AnswerKey { api, number };
        let Some(task) = self.calls().answered(device, key) else {
            // A device that answers late, or twice.
            return Err(refused(
                Refusal::UnknownTask,
                RefusedKind::NotTheirs,
                "no call waits for this answer",
            ));
        };
        let body = ResultBody::Json(Arc::from(text));
        Ok(Opened { task, result: NewResult { ext_id: 0, status_code: OK, body } })
    }

    /// Ends the call that was answered, and looks for the next one.
    pub(super) async fn carry_out(
        &self,
        engine: &Engine,
        device: &DeviceIdentity,
        opened: Opened,
    ) -> Result<(), Refused> {
        let outcome = engine.for_device(device).task_finish(opened.task, opened.result).await;
        self.ended(device, opened.task);
        match outcome?.not_stored {
            None => Ok(()),
            Some(_) => Err(refused(Refusal::Limit, RefusedKind::Limit, "the call is over")),
        }
    }

    /// The end of a call is stored, or cannot be.
    fn ended(&self, device: &DeviceIdentity, task: TaskId) {
        let ask = self.calls().ended(device, task);
        self.begin_asking(ask);
        let ask = self.calls().next_without_room();
        self.begin_asking(ask);
    }

    /// Asks what a device is to be told next. Called from threads outside of the runtime, too.
    fn begin_asking(&self, ask: Option<Ask>) {
        let (Some(ask), Some(at_work), Some(this)) = (ask, self.at_work.get(), self.this.upgrade()) else {
            return;
        };
        at_work.runtime.spawn(async move { this.ask(ask).await });
    }

    async fn ask(self: Arc<Self>, mut ask: Ask) {
        loop {
            let Some(engine) = self.at_work.get().and_then(|at_work| at_work.engine.upgrade()) else {
                return;
            };
            let device = ask.device.clone();
            let is_numbered = self.topics.are_numbered();
            let call = engine.for_device(&device).microcontroller_next(ask.busy.clone(), is_numbered).await;
            drop(engine);
            let call = call.unwrap_or_else(|error| {
                // The task is announced again.
                tracing::warn!(sn = %device.sn, %error, "a call was not handed out");
                None
            });
            let (is_kept, next) = self.calls().asked(&ask, call.as_ref().map(|call| (call.key, call.task)));
            // One whose device is registered no longer expires.
            if let Some(call) = call.filter(|_| is_kept) {
                self.tell(&device, &call);
                tokio::spawn(Arc::clone(&self).wait(device, call));
            }
            match next {
                Some(next) => ask = next,
                None => return,
            }
        }
    }

    /// Tells a device of a call.
    fn tell(&self, device: &DeviceIdentity, call: &MicrocontrollerCall) {
        let topic = self.topics.request(device.sn.as_str(), call.request.api.name());
        let properties = PropertyList::new(Place::PublishFromServer);
        let message = Message {
            token: NO_TOKEN,
            topic: &topic,
            qos: Qos::AtMostOnce,
            expiry_s: None,
            properties: properties.properties(),
            payload: call.request.parameters.as_bytes(),
        };
        let hub = self.embedded.upgrade().and_then(|embedded| embedded.hub());
        let sent = hub.and_then(|hub| {
            hub.with(device.sn.as_str(), |client| {
                (client.client().identity == *device).then(|| client.send(&message))
            })
        });
        if !matches!(sent.flatten(), Some(Sent::Written)) {
            // Nobody answers it, which ends it.
            tracing::debug!(sn = %device.sn, topic, ?sent, "a call did not reach its device");
        }
    }

    /// Ends a call that is not answered in time.
    async fn wait(self: Arc<Self>, device: DeviceIdentity, call: MicrocontrollerCall) {
        let ms = u64::try_from(call.left_ms.min(ANSWER_MS_MAX)).unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(ms)).await;
        if !self.calls().is_overdue(&device, call.task) {
            return;
        }
        // One that lives no longer expires by itself.
        let engine = self.at_work.get().and_then(|at_work| at_work.engine.upgrade());
        if let Some(engine) = engine.filter(|_| call.left_ms > ANSWER_MS_MAX) {
            let body = ResultBody::Text(Arc::from(NO_ANSWER));
            let result = NewResult { ext_id: 0, status_code: GATEWAY_TIMEOUT, body };
            if let Err(error) = engine.for_device(&device).task_finish(call.task, result).await {
                // Who asks for the next call ends it, since nobody waits for it.
                tracing::warn!(sn = %device.sn, %error, "the end of a call was not stored");
            }
        }
        self.ended(&device, call.task);
    }
}

fn refused(refusal: Refusal, kind: RefusedKind, why: &str) -> Refused {
    Refused { refusal: Some(refusal), kind, why: why.to_owned(), reply: None }
}

impl Link for Microcontrollers {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn announce(&self, task: Announcement) {
        let ask = self.calls().wanted(&task.sn);
        self.begin_asking(ask);
    }

    fn revoke(&self, sn: &Sn) {
        // The embedded link closes its connection.
        let ask = self.calls().forget(sn);
        self.begin_asking(ask);
    }

    fn admit(&self, _: &Sn) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
