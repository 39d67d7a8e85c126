//! Messages of a client that the owner is still working on.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use covey_wire::mqtt::session::Receipt;

use super::device::Device;
use super::service::{Answer, Later};

/// The messages of one connection, in the order in which they came. While there are none it keeps no
/// room.
#[derive(Default)]
pub(super) struct UnderWay(Vec<Message>);

struct Message {
    /// None for one that is not acknowledged (QoS 0).
    receipt: Option<Receipt>,
    answer: Later<Answer>,
}

impl UnderWay {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push(&mut self, receipt: Option<Receipt>, answer: Later<Answer>) {
        self.0.push(Message { receipt, answer });
    }

    /// Goes on with all of them; what became of those that are done now is added to `done`.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, done: &mut Vec<(Option<Receipt>, Answer)>) {
        // Kept in order: each is begun after those that came before it.
        self.0.retain_mut(|message| match message.answer.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(answer) => {
                done.push((message.receipt.take(), answer));
                false
            }
        });
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    /// Goes on to their end without a connection. The session is told what became of each, so that a
    /// client that comes back and repeats one of them is answered rightly \[MQTT-4.3.3\].
    pub(super) async fn go_on<C>(mut self, device: Arc<Device<C>>) {
        let mut done = Vec::new();
        poll_fn(|context| {
            self.poll(context, &mut done);
            if !done.is_empty() {
                let mut inner = device.lock();
                let inner = &mut *inner;
                for (receipt, answer) in done.drain(..) {
                    if let Some(receipt) = receipt {
                        inner.session.answer(receipt, answer.reason, &answer.text, &mut inner.output);
                    }
                }
                // The client may be back, and wait for it.
                inner.wake();
            }
            if self.0.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
