//! The contract's messages as the MQTT client has them.

use bytes::Bytes;
use covey_wire::downlink::{self, Decoded};
use covey_wire::uplink::UplinkProperties;
use covey_wire::{Downlink, Uplink, parse_downlink_topic};
use rumqttc::PublishProperties;
use uuid::Uuid;

/// Longest life of a task, taken when a message does not say how long it lives: 31 days.
const TASK_LIFE_MAX_S: u64 = 31 * 24 * 3600;

/// The topics of one device.
#[derive(Debug)]
pub(crate) struct Topics {
    sn: Box<str>,
    pub(crate) ack: String,
    pub(crate) req: String,
    pub(crate) res: String,
    pub(crate) evt: String,
}

impl Topics {
    pub(crate) fn new(sn: &str) -> Self {
        let [ack, req, res, evt] = Uplink::ALL.map(|uplink| uplink.topic(sn));
        Self { sn: sn.into(), ack, req, res, evt }
    }

    /// What to subscribe to. `tsk` comes last: the server announces as soon as it is
    /// subscribed, and the answers must have somewhere to go by then.
    pub(crate) fn subscriptions(&self, announcements: bool) -> impl Iterator<Item = String> {
        let last = announcements.then_some(Downlink::Tsk);
        [Downlink::Rsp, Downlink::Cmt, Downlink::Eva]
            .into_iter()
            .chain(last)
            .map(|downlink| downlink.topic(&self.sn))
    }
}

/// Why a message of the server is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ignored {
    #[error("the topic is not of this device")]
    NotOfThisDevice,
    #[error("the topic is not of the contract")]
    UnknownTopic,
    #[error(transparent)]
    Undecodable(#[from] downlink::Undecodable),
}

/// Reads a message of the server.
pub(crate) fn decode<'a>(
    topics: &Topics,
    topic: &[u8],
    properties: &'a PublishProperties,
    body: &[u8],
) -> Result<Decoded<'a>, Ignored> {
    let topic = std::str::from_utf8(topic).ok().and_then(parse_downlink_topic);
    let (_, downlink) = topic.filter(|(sn, _)| *sn == &*topics.sn).ok_or(Ignored::NotOfThisDevice)?;
    let properties = downlink::Properties {
        correlation_data: properties.correlation_data.as_deref(),
        expiry_s: properties.message_expiry_interval,
        user: &properties.user_properties,
    };
    Ok(downlink::decode(downlink.ok_or(Ignored::UnknownTopic)?, properties, body)?)
}

/// A task to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub(crate) task_id: Uuid,
    pub(crate) method_code: u16,
    pub(crate) method: Option<Box<str>>,
    /// As the server said it, in Unix seconds of its clock.
    pub(crate) expires_at: Option<u64>,
    /// Until when to remember the task, in Unix seconds of this device's clock.
    pub(crate) keep_until: u64,
    pub(crate) payload: Bytes,
}

impl Parameters {
    /// `body` is that of the `rsp`, `now` this device's clock in Unix seconds.
    pub(crate) fn new(said: downlink::Parameters<'_>, body: &Bytes, now: u64) -> Self {
        Self {
            task_id: said.task_id,
            method_code: said.method_code,
            method: said.method.map(Box::from),
            expires_at: said.expires_at_s,
            keep_until: keep_until(said.expires_at_s, said.expiry_s, now),
            payload: body.slice_ref(downlink::parameters(said.task_id, body)),
        }
    }
}

/// The message's remaining life is right whatever this device's clock says; `expires_at` is
/// right if it agrees with the server's. The later one counts: remembering too long is harmless.
fn keep_until(expires_at: Option<u64>, expiry_s: Option<u32>, now: u64) -> u64 {
    let by_life = expiry_s.map(|left| now.saturating_add(u64::from(left)));
    expires_at.max(by_life).unwrap_or_else(|| now.saturating_add(TASK_LIFE_MAX_S))
}

/// Properties as the MQTT client takes them.
pub(crate) fn publish_properties(of: UplinkProperties) -> PublishProperties {
    PublishProperties {
        correlation_data: of.correlation_data.map(Bytes::from),
        user_properties: of.user.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        ..PublishProperties::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use covey_wire::downlink::Commit;
    use covey_wire::uplink;

    use super::*;

    const TASK: Uuid = Uuid::from_u128(7);
    const NOW: u64 = 1_000;

    #[test]
    fn topics_bear_the_serial_number() {
        let topics = Topics::new("lamp-1");
        assert_eq!(
            [&topics.ack, &topics.req, &topics.res, &topics.evt],
            ["dev/lamp-1/ack", "dev/lamp-1/req", "dev/lamp-1/res", "dev/lamp-1/evt"]
        );
        let subscriptions = |announcements| topics.subscriptions(announcements).collect::<Vec<_>>();
        assert_eq!(subscriptions(false), ["srv/lamp-1/rsp", "srv/lamp-1/cmt", "srv/lamp-1/eva"]);
        assert_eq!(
            subscriptions(true),
            ["srv/lamp-1/rsp", "srv/lamp-1/cmt", "srv/lamp-1/eva", "srv/lamp-1/tsk"],
            "announcements come as soon as they are subscribed to, so that comes last"
        );
    }

    #[test]
    fn messages_to_others_and_unknown_ones_are_ignored() {
        let topics = Topics::new("lamp-1");
        let properties = PublishProperties {
            correlation_data: Some(TASK.to_string().into()),
            user_properties: vec![("result_id".to_owned(), "42".to_owned())],
            ..PublishProperties::default()
        };
        let decoded = |topic: &str| decode(&topics, topic.as_bytes(), &properties, b"");
        let commit = Commit { task_id: TASK, ext_id: None, result_id: Some(42) };
        assert_eq!(decoded("srv/lamp-1/cmt"), Ok(Decoded::Committed(commit)));
        for topic in ["srv/lamp-2/cmt", "srv/lamp-1", "dev/lamp-1/req", ""] {
            assert_eq!(decoded(topic), Err(Ignored::NotOfThisDevice), "{topic}");
        }
        assert_eq!(decode(&topics, b"srv/lamp-1/\xff", &properties, b""), Err(Ignored::NotOfThisDevice));
        assert_eq!(decoded("srv/lamp-1/xyz"), Err(Ignored::UnknownTopic));
        let eva = decoded("srv/lamp-1/eva").unwrap_err();
        assert_eq!(eva.to_string(), "an eva without an integer dev_event_id");
    }

    #[test]
    fn a_task_is_kept_for_the_longer_of_both_lives() {
        let said = downlink::Parameters {
            task_id: TASK,
            method_code: 20,
            method: Some("blink"),
            expires_at_s: Some(1_060),
            expiry_s: Some(90),
        };
        let payload = Bytes::from_static(b"{}");
        let expected = Parameters {
            task_id: TASK,
            method_code: 20,
            method: Some(Box::from("blink")),
            expires_at: Some(1_060),
            keep_until: 1_090,
            payload: payload.clone(),
        };
        assert_eq!(Parameters::new(said, &payload, NOW), expected);
        let envelope = format!(r#"{{"id":"{TASK}","created_at":1,"header":{{}},"status":2,"payload":{{}}}}"#);
        assert_eq!(Parameters::new(said, &Bytes::from(envelope), NOW), expected);
        assert_eq!(keep_until(None, None, NOW), NOW + TASK_LIFE_MAX_S);
        assert_eq!(keep_until(None, Some(5), NOW), NOW + 5);
        assert_eq!(keep_until(Some(7), None, NOW), 7);
    }

    #[test]
    fn a_result_goes_out_with_all_its_properties() {
        let properties = publish_properties(uplink::result(TASK, 206, -1));
        let task = TASK.to_string();
        assert_eq!(properties.correlation_data.unwrap(), task.as_bytes());
        let user: Vec<_> =
            properties.user_properties.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(user, [("status_code", "206"), ("ext_id", "-1"), ("correlationData", &*task)]);
    }
}
