//! An empty stored session for the MQTT client: the broker may hold a session of an earlier run
//! of this server, and nothing in it waits for this side.
//!
//! Unacknowledged messages of the earlier run are not sent again: they were announcements or
//! answers, and announcements are repeated and devices ask again. Without this the client would
//! refuse to resume a session (MQTT 5 §3.2.2.1.1) that it does not know.

use rumqttc::{PersistedAckMode, PersistedSession, SessionStore, SessionStoreError, SessionStoreKey};

use covey_core::port::BoxFuture;

/// The format of [`PersistedSession`] that this was written for.
const FORMAT_VERSION: u16 = 1;

/// The session as every run begins it.
#[derive(Debug)]
pub(super) struct EmptySession {
    pub(super) session_expiry_s: u32,
    pub(super) inflight_max: u16,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, SessionStoreError>>;

impl SessionStore for EmptySession {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> Answer<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: FORMAT_VERSION,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: Some(self.session_expiry_s),
            outgoing_inflight_upper_limit: Some(self.inflight_max),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(Some(session))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}
