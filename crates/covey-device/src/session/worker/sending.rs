//! Handing messages to the client, as it has room for them.

use bytes::Bytes;
use covey_wire::uplink::{self, UplinkProperties};
use rumqttc::{ClientError, PublishOptions, QoS};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Outgoing, Worker};
use crate::answer::Answer;
use crate::session::outbox::ItemNumber;
use crate::wire::publish_properties;

/// Room for everything of a `res` but its body.
const RESULT_HEAD_BYTES: usize = 512;

impl Worker {
    /// Hands over what is queued until the client is full. Messages go before
    /// acknowledgements: the client writes both with one flush.
    pub(super) fn hand_over_all(&mut self, now: Instant) {
        while let Some(message) = self.outgoing.pop_front() {
            if !self.hand_over(&message, now) {
                self.outgoing.push_front(message);
                break;
            }
        }
        while let Some(ack) = self.acks.pop_front() {
            if self.client.try_manual_ack(ack.clone()).is_err() {
                self.acks.push_front(ack);
                break;
            }
        }
    }

    /// Hands one message to the client. False if there is no room now.
    fn hand_over(&mut self, message: &Outgoing, now: Instant) -> bool {
        let request_qos = if self.settings.request_at_most_once { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        match message {
            Outgoing::Ack(task_id) => {
                self.publish(&self.topics.ack, request_qos, uplink::request(*task_id), Bytes::new())
            }
            Outgoing::Request(task_id) => {
                self.publish(&self.topics.req, request_qos, uplink::request(*task_id), Bytes::new())
            }
            Outgoing::Poll => {
                self.publish(&self.topics.req, request_qos, uplink::request(Uuid::nil()), Bytes::new())
            }
            Outgoing::Result(number) => self.hand_over_result(*number, now),
        }
    }

    fn hand_over_result(&mut self, number: ItemNumber, now: Instant) -> bool {
        let Some(item) = self.outbox.get(number) else {
            return true;
        };
        let (mut status, mut body) = (item.status, item.body.clone());
        // The server closes the connection over a larger packet, for ever again. It gets a
        // failure it can take instead.
        let bytes_max = self.server_packet_bytes_max.map_or(usize::MAX, |max| max as usize);
        if body.len().saturating_add(RESULT_HEAD_BYTES) > bytes_max {
            tracing::error!(task_id = %item.task_id, bytes = body.len(), bytes_max, "result larger than the server accepts; sending 413 instead");
            status = if item.is_partial() { status } else { 413 };
            body = Answer::error(413, "the result is larger than the server takes").body;
        }
        let properties = uplink::result(item.task_id, status, item.ext_id);
        let partial = item.is_partial();
        if !self.publish(&self.topics.res, QoS::AtLeastOnce, properties, body) {
            return false;
        }
        self.outbox.sent(number, now);
        self.counters.sent(partial);
        true
    }

    fn publish(&self, topic: &str, qos: QoS, properties: UplinkProperties, body: Bytes) -> bool {
        let options = PublishOptions::new(qos).properties(publish_properties(properties));
        match self.client.try_publish(topic, body, options) {
            Ok(()) => true,
            Err(ClientError::RequestChannelFull(_)) => false,
            Err(error) => {
                tracing::error!(sn = %self.settings.sn, topic, %error, "message not sent");
                true
            }
        }
    }
}
