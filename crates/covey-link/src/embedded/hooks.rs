//! The broker's hooks: what happens when.

use std::sync::Arc;

use async_trait::async_trait;
use rmqtt::codec::v5::{DisconnectReasonCode, SubscribeAckReason, ToReasonCode};
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::session::Session;
use rmqtt::types::{ConnectInfo, Id, Message, Reason, SubscribeAclResult, Tx};

use covey_core::device::Connection;
use covey_core::port::Refusal;
use covey_wire::subscription_reaches;

use crate::embedded::sessions::{Hearing, Hold};
use crate::embedded::{Shared, admission, uplink};
use crate::ending;

/// The hooks that are needed.
const TYPES: [Type; 8] = [
    Type::ClientAuthenticate,
    Type::ClientConnected,
    Type::ClientDisconnected,
    Type::SessionTerminated,
    Type::ClientSubscribeCheckAcl,
    Type::SessionSubscribed,
    Type::SessionUnsubscribed,
    Type::MessagePublishCheckAcl,
];

/// Installs the hooks.
pub(super) async fn register(shared: &Shared) {
    let register = shared.broker.extends.hook_mgr().register();
    for hook in TYPES {
        register.add(hook, Box::new(Hooks(shared.clone()))).await;
    }
    register.start().await;
}

struct Hooks(Shared);

#[async_trait]
impl Handler for Hooks {
    async fn hook(&self, parameter: &Parameter, before: Option<HookResult>) -> ReturnType {
        let shared = &self.0;
        let answer = match parameter {
            Parameter::ClientAuthenticate(connect) => {
                Some(HookResult::AuthResult(admission::admit(shared, connect).await))
            }
            Parameter::ClientConnected(session) => {
                connected(shared, session).await;
                None
            }
            Parameter::ClientDisconnected(session, reason) => {
                disconnected(shared, session, reason);
                None
            }
            Parameter::SessionTerminated(session, _) => {
                shared.link.sessions.terminated(&session.id);
                None
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                let may = may_subscribe(shared, session, &subscribe.topic_filter);
                let answer = if may {
                    SubscribeAclResult::new_success(subscribe.opts.qos(), None)
                } else {
                    SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized)
                };
                Some(HookResult::SubscribeAclResult(answer))
            }
            Parameter::SessionSubscribed(session, subscribe) => {
                let qos = subscribe.opts.qos();
                hear(
                    shared,
                    session,
                    shared.link.sessions.subscribed(&session.id, &subscribe.topic_filter, qos),
                );
                None
            }
            Parameter::SessionUnsubscribed(session, unsubscribe) => {
                hear(
                    shared,
                    session,
                    shared.link.sessions.unsubscribed(&session.id, &unsubscribe.topic_filter),
                );
                None
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                Some(uplink::handle(shared, session, publish).await)
            }
            _ => return (true, before),
        };
        (false, answer.or(before))
    }
}

async fn connected(shared: &Shared, session: &Session) {
    let id = &session.id;
    let tx = shared.broker.extends.shared().await.entry(id.clone()).tx();
    let (Ok(connect), Some(tx)) = (session.connect_info().await, tx) else { return };
    let (Some(claim), Some(device)) =
        (admission::Claim::of(&connect), shared.link.sessions.take_admitted(id))
    else {
        return close(&tx);
    };
    let has_properties = matches!(*connect, ConnectInfo::V5(..));
    let is_resumed = session.session_present().await.unwrap_or_default();
    let hold =
        Hold { id: id.clone(), device: Arc::clone(&device), tx: tx.clone(), has_properties, is_resumed };
    let listens = shared.link.sessions.connected(hold);
    tracing::debug!(sn = %device.sn, "connected");
    shared.engine.for_device(&device).connected(told_of(shared, id, details(&connect)));
    // From here on a retirement finds the session. One that came between the
    // first look and now has not, and is seen by a second look.
    match shared.engine.server().device_admit(&claim.sn, &claim.certificate_serial_hex).await {
        Ok(Some(admitted)) if admitted == *device => {}
        Ok(_) | Err(_) => return close(&tx),
    }
    if listens {
        shared.engine.for_device(&device).subscribed(crate::embedded::NAME);
    }
}

/// Ends a connection that must not be, with the reason that tells 0x87.
fn close(tx: &Tx) {
    let _ = tx.unbounded_send(Message::Closed(Reason::SubscribeRefused));
}

fn disconnected(shared: &Shared, session: &Session, reason: &Reason) {
    if let Some(device) = shared.link.sessions.disconnected(&session.id) {
        if is_violation(reason) {
            shared.link.refuse(Refusal::Protocol);
            tracing::warn!(sn = %device.sn, %reason, "a connection was closed");
        } else {
            tracing::debug!(sn = %device.sn, %reason, "disconnected");
        }
        let words = told(reason);
        let details = vec![("reason".to_owned(), words.to_owned())];
        let connection = told_of(shared, &session.id, details);
        let connection = Connection { reason: ending::reason(words), ..connection };
        shared.engine.for_device(&device).disconnected(connection);
    }
}

/// Whether a device has broken the rules of MQTT (MQTT 5 §4.13).
fn is_violation(reason: &Reason) -> bool {
    !matches!(reason, Reason::ConnectDisconnect(_))
        && matches!(
            reason.to_reason_code(),
            DisconnectReasonCode::MalformedPacket
                | DisconnectReasonCode::ProtocolError
                | DisconnectReasonCode::PacketTooLarge
                | DisconnectReasonCode::ReceiveMaximumExceeded
                | DisconnectReasonCode::TopicAliasInvalid
                | DisconnectReasonCode::TopicNameInvalid
                | DisconnectReasonCode::TopicFilterInvalid
                | DisconnectReasonCode::PayloadFormatInvalid
                | DisconnectReasonCode::ImplementationSpecificError
        )
}

/// How a connection ended of which nothing better is known.
const LOST: &str = "connection lost";

/// How a connection ended, in words for applications.
fn told(reason: &Reason) -> &'static str {
    match reason {
        Reason::ConnectDisconnect(_) => "disconnected by the device or the server",
        Reason::ConnectKeepaliveTimeout => "keep-alive timed out",
        Reason::ConnectKicked(_) => "taken over by another connection",
        Reason::ConnectReadWriteTimeout => "timed out",
        Reason::SubscribeRefused => "not authorised",
        // What came first brought the others about.
        Reason::Reasons(all) => all.iter().map(told).find(|words| *words != LOST).unwrap_or(LOST),
        reason if is_violation(reason) => "protocol error",
        _ => LOST,
    }
}

/// A connection in the words of the core.
fn told_of(shared: &Shared, id: &Id, details: Vec<(String, String)>) -> Connection {
    let address = id.remote_addr.map(|address| address.to_string()).unwrap_or_default();
    let session = format!("{address} {}", id.create_time);
    Connection { session, server: shared.link.server.clone(), details, ..Connection::default() }
}

/// What is told of a connection.
fn details(connect: &ConnectInfo) -> Vec<(String, String)> {
    let protocol = match connect {
        ConnectInfo::V3(..) => "MQTT 3.1.1",
        ConnectInfo::V5(..) => "MQTT 5",
    };
    let address = connect.ipaddress().map(|address| ("address".to_owned(), address.to_string()));
    address.into_iter().chain([("protocol".to_owned(), protocol.to_owned())]).collect()
}

fn may_subscribe(shared: &Shared, session: &Session, filter: &str) -> bool {
    let may = subscription_reaches(&session.id.client_id, filter).is_some();
    if !may {
        shared.link.refuse(Refusal::SubscribeTopic);
        tracing::warn!(sn = %session.id.client_id, filter, "a subscription was refused");
    }
    may
}

fn hear(shared: &Shared, session: &Session, hearing: Hearing) {
    let Some(device) = shared.link.sessions.device(&session.id) else { return };
    match hearing {
        Hearing::Listens => shared.engine.for_device(&device).subscribed(crate::embedded::NAME),
        Hearing::Deaf => shared.engine.for_device(&device).unsubscribed(),
        Hearing::AsBefore => {}
    }
}
