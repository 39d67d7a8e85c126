//! From the first byte of MQTT to the CONNACK.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use covey_wire::mqtt::session::{expiry_s, refuse};
use covey_wire::mqtt::{
    ConnAck, Connect, Disconnect, Framing, Packet, Properties, ProtocolVersion, ReasonCode, Sender,
    Violation, decode, frame, version_to_refuse_in,
};
use tokio::time::timeout;

use super::connection::Connection;
use super::hub::Hub;
use super::service::{Admitted, Claim, Denied, Opened, Service};
use crate::listener::{Established, Life, Protocol};
use crate::refusal::{Refusal, Refused};
use crate::transport::Transport;

/// The fixed header's first byte of a CONNECT (MQTT 5 §3.1.1).
const CONNECT: u8 = 0x10;
/// How much of a client identifier is told of a client that is not let in.
const CLIENT_ID_CHARS_TOLD: usize = 64;

/// MQTT as the protocol of a listener.
pub(super) struct Mqtt<S: Service> {
    hub: Arc<Hub<S>>,
}

impl<S: Service> Mqtt<S> {
    pub(super) fn new(hub: Arc<Hub<S>>) -> Self {
        Self { hub }
    }
}

impl<S: Service> Protocol for Mqtt<S> {
    async fn begin(&self, established: Established) -> Result<Option<Life>, Refused> {
        let mut established = established;
        let said = match self.read_connect(&mut established).await {
            Ok(size) => self.let_in(&established, size).await,
            Err(not_connect) => Err(not_connect),
        };
        let Established { transport, early, .. } = established;
        match said {
            Ok(letting_in) => {
                let LetIn { client, attached, size } = letting_in;
                let unread = early[size..].to_vec();
                let hub = Arc::clone(&self.hub);
                Ok(Some(Box::pin(Connection::new(hub, client, attached, transport, unread))))
            }
            Err(NotLetIn { answer, refused }) => {
                last_words(transport, &answer).await;
                refused.map_or(Ok(None), Err)
            }
        }
    }

    fn refused(&self, refusal: Refusal) {
        self.hub.service().refused(refusal);
    }

    fn shutdown(&self) {
        self.hub.shut_down();
    }
}

/// Somebody who is let in, and how many bytes the CONNECT had.
struct LetIn<S: Service> {
    client: Arc<S::Client>,
    attached: super::hub::Attached<S::Client>,
    size: usize,
}

/// Somebody who is not: what the client is told, if anything, and what the owner is.
struct NotLetIn {
    answer: Vec<u8>,
    /// None if it knows, or need not know.
    refused: Option<Refused>,
}

impl NotLetIn {
    /// Closed without an answer.
    fn closed(refused: Refused) -> Self {
        Self { answer: Vec::new(), refused: Some(refused) }
    }

    fn violation(version: ProtocolVersion, violation: &Violation) -> Self {
        let mut answer = Vec::new();
        refuse(version, violation.reason, violation.text, None, &mut answer);
        Self { answer, refused: Some(Refused::Protocol(format!("CONNECT refused: {violation}"))) }
    }

    /// By this server, not by the owner.
    fn denied(connect: &Connect<'_>, denied: &Denied) -> Self {
        let client_id: String = connect.client_id.chars().take(CLIENT_ID_CHARS_TOLD).collect();
        let refused = Refused::Protocol(format!("CONNECT of {client_id:?} refused: {}", denied.text));
        Self { refused: Some(refused), ..Self::denied_by_owner(connect, denied) }
    }

    /// A CONNACK cannot say so (MQTT 5 §3.2.2.2): the client was connected for no time at all.
    fn taken_over(connect: &Connect<'_>, why: &Denied) -> Self {
        let properties = Properties::NONE;
        let connack = ConnAck { session_present: false, reason: ReasonCode::Success, properties };
        let disconnect = Disconnect { reason: why.reason, properties };
        // A server of 3.1.1 has no DISCONNECT: it closes.
        let is_said = connect.version == ProtocolVersion::V5;
        let mut answer = Vec::new();
        for packet in [Some(Packet::ConnAck(connack)), is_said.then_some(Packet::Disconnect(disconnect))] {
            // Neither breaks a rule.
            let _ = packet.map(|packet| packet.encode(connect.version, &mut answer));
        }
        Self { answer, refused: None }
    }

    fn denied_by_owner(connect: &Connect<'_>, denied: &Denied) -> Self {
        let mut answer = Vec::new();
        refuse(connect.version, denied.reason, &denied.text, Some(connect), &mut answer);
        Self { answer, refused: None }
    }
}

impl<S: Service> Mqtt<S> {
    /// Reads until there is a whole CONNECT; answers its size in bytes.
    async fn read_connect(&self, established: &mut Established) -> Result<usize, NotLetIn> {
        let Established { transport, early: said, certificate, .. } = established;
        // Without TLS, a scanner or the health check of a load balancer may leave without a byte.
        let is_plain = certificate.is_none();
        loop {
            // Told by its first byte, so that nobody waits for the rest of what is no MQTT.
            if said.first().is_some_and(|first| *first != CONNECT) {
                return Err(not_connect());
            }
            match frame(said, self.hub.limits().connect_bytes_max) {
                Ok(Framing::Frame(frame)) => return Ok(frame.size()),
                Ok(Framing::Need(_)) => {}
                Err(violation) => return Err(NotLetIn::violation(version_said(said), &violation)),
            }
            poll_fn(|context| transport.poll_read(context, said)).await.map_err(|ended| {
                let is_silent = said.is_empty() && is_plain;
                let refused = (!is_silent).then(|| Refused::Left(ended.to_string()));
                NotLetIn { answer: Vec::new(), refused }
            })?;
        }
    }

    /// Asks the owner, and enters the client.
    async fn let_in(&self, established: &Established, size: usize) -> Result<LetIn<S>, NotLetIn> {
        let limits = self.hub.limits();
        let connect = read(&established.early[..size])?;
        let claim = Claim {
            connect: &connect,
            certificate: established.certificate.as_ref(),
            address: established.address,
            expiry_s: expiry_s(&connect, &limits.session),
        };
        let service = self.hub.service();
        // Taken now: whose CONNECT comes later wins, however long the owner looks at each.
        let connection = self.hub.next_connection();
        let asked = timeout(Duration::from_millis(limits.admit_ms_max), service.admit(claim)).await;
        let late = || {
            let text = "the server took too long".into();
            Denied { reason: ReasonCode::ServerUnavailable, text }
        };
        let denied = |denied: Denied| NotLetIn::denied(&connect, &denied);
        let by_owner = |denied: Denied| NotLetIn::denied_by_owner(&connect, &denied);
        let admitted = asked.map_err(|_| denied(late()))?.map_err(by_owner)?;
        let Admitted { client, assigned_client_id, session } = admitted;
        let assigned = assigned_client_id.as_deref();
        let client_id = assigned.unwrap_or(connect.client_id);
        if client_id.is_empty() {
            let text = "the client identifier is empty, and none is assigned".into();
            return Err(denied(Denied { reason: ReasonCode::ClientIdentifierNotValid, text }));
        }
        // From here on nothing is waited for: the connection exists, and whoever ends it tells its end.
        let attached = self.hub.attach(connection, client_id, &client, &connect, assigned, session);
        let attached = attached.map_err(|why| match why.reason {
            ReasonCode::SessionTakenOver => NotLetIn::taken_over(&connect, &why),
            _ => denied(why),
        })?;
        let opened = Opened {
            connection: attached.connection,
            client_id,
            address: established.address,
            version: connect.version,
            is_resumed: attached.connected.session_present,
        };
        service.connected(&client, opened);
        Ok(LetIn { client, attached, size })
    }
}

/// Reads a whole CONNECT.
fn read(bytes: &[u8]) -> Result<Connect<'_>, NotLetIn> {
    match frame(bytes, bytes.len()) {
        Ok(Framing::Frame(frame)) => match decode(frame, ProtocolVersion::V5, Sender::Client) {
            Ok(Packet::Connect(connect)) => Ok(connect),
            Ok(_) => Err(not_connect()),
            Err(violation) => Err(NotLetIn::violation(version_to_refuse_in(frame), &violation)),
        },
        _ => Err(not_connect()),
    }
}

/// The first packet must be a CONNECT; the connection is closed without a word if it is not.
fn not_connect() -> NotLetIn {
    NotLetIn::closed(Refused::Protocol("the first packet is not a CONNECT [MQTT-3.1.0-1]".to_owned()))
}

/// The version of a CONNECT that is not here as a whole: the byte behind the protocol's name, if that
/// has come (MQTT 5 §3.1.2.2).
fn version_said(connect: &[u8]) -> ProtocolVersion {
    let header = 1 + connect.iter().skip(1).take(3).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    match connect.get(header..) {
        Some([0, 4, b'M', b'Q', b'T', b'T', 5, ..]) => ProtocolVersion::V5,
        _ => ProtocolVersion::V311,
    }
}

async fn last_words(mut transport: Transport, answer: &[u8]) {
    if answer.is_empty() || transport.send(answer).is_ok() {
        transport.finish().await;
    }
}
