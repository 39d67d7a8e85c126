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

use crate::disconnect_reason::DisconnectReason;
use crate::embedded::sessions::{Hold, Listening};
use crate::embedded::{Shared, admission, publish};

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
                listening_changed(
                    shared,
                    session,
                    shared.link.sessions.subscribed(&session.id, &subscribe.topic_filter, qos),
                );
                None
            }
            Parameter::SessionUnsubscribed(session, unsubscribe) => {
                listening_changed(
                    shared,
                    session,
                    shared.link.sessions.unsubscribed(&session.id, &unsubscribe.topic_filter),
                );
                None
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                Some(publish::handle(shared, session, publish).await)
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
    let connection = Connection {
        session: session_name(id),
        server: shared.link.server.clone(),
        details: details(&connect),
        ..Connection::default()
    };
    shared.engine.for_device(&device).connected(connection);
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

/// Closes a connection that must not exist; the device gets reason 0x87.
fn close(tx: &Tx) {
    let _ = tx.unbounded_send(Message::Closed(Reason::SubscribeRefused));
}

fn disconnected(shared: &Shared, session: &Session, reason: &Reason) {
    if let Some(device) = shared.link.sessions.disconnected(&session.id) {
        if is_violation(reason) {
            shared.link.refusals.count(Refusal::Protocol);
            tracing::warn!(sn = %device.sn, %reason, "connection closed for a protocol error");
        } else {
            tracing::debug!(sn = %device.sn, %reason, "disconnected");
        }
        let ended = disconnect_reason(reason).end(session_name(&session.id));
        let connection = Connection { server: shared.link.server.clone(), ..ended };
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

/// Why a connection ended.
fn disconnect_reason(reason: &Reason) -> DisconnectReason {
    match reason {
        Reason::ConnectDisconnect(_) => DisconnectReason::ByDeviceOrServer,
        Reason::ConnectKeepaliveTimeout => DisconnectReason::KeepAlive,
        Reason::ConnectKicked(_) => DisconnectReason::TakenOver,
        Reason::ConnectReadWriteTimeout => DisconnectReason::TimedOut,
        Reason::SubscribeRefused => DisconnectReason::NotAuthorised,
        // The first reason caused the others.
        Reason::Reasons(all) => all
            .iter()
            .map(disconnect_reason)
            .find(|reason| *reason != DisconnectReason::ConnectionLost)
            .unwrap_or(DisconnectReason::ConnectionLost),
        reason if is_violation(reason) => DisconnectReason::ProtocolError,
        _ => DisconnectReason::ConnectionLost,
    }
}

/// The name of a connection among those of its device.
fn session_name(id: &Id) -> String {
    let address = id.remote_addr.map(|address| address.to_string()).unwrap_or_default();
    format!("{address} {}", id.create_time)
}

/// Details of a connection, for applications.
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
        shared.link.refusals.count(Refusal::SubscribeTopic);
        tracing::warn!(sn = %session.id.client_id, filter, "subscription refused");
    }
    may
}

fn listening_changed(shared: &Shared, session: &Session, listening: Listening) {
    let Some(device) = shared.link.sessions.device(&session.id) else { return };
    match listening {
        Listening::Subscribed => shared.engine.for_device(&device).subscribed(crate::embedded::NAME),
        Listening::Unsubscribed => shared.engine.for_device(&device).unsubscribed(),
        Listening::Unchanged => {}
    }
}
