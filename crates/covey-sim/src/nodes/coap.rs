//! A CoAP node: a server at port 5683 of an address of its own, and a client of the gateway, each time from a new port.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coap_lite::{CoapOption, ContentFormat, MessageClass, MessageType, Packet, RequestType, ResponseType};
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::node::{Node, NotSet};
use super::{ALIVE, Shared};

/// The port of CoAP.
pub(super) const PORT: u16 = 5_683;
/// How long the first answer is waited for (RFC 7252 §4.8 `ACK_TIMEOUT`); each time twice as long.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a message is sent in all (§4.8 `MAX_RETRANSMIT`, and the first time).
const ATTEMPTS_MAX: u32 = 5;
/// How long a response may take that comes apart from the acknowledgement.
const RESPONSE_WAIT: Duration = Duration::from_secs(30);
/// Largest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 2_048;

/// Takes the address of a node.
pub(super) async fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(address).await
}

/// Lives until `stop`.
pub(super) async fn run(shared: &Shared, node: Node, server: UdpSocket, stop: &CancellationToken) {
    let living = async {
        tokio::join!(serve(shared, &node, &server), tell(shared, &node, &server));
    };
    stop.run_until_cancelled(living).await;
}

/// Says that the node is there, and how its values change.
async fn tell(shared: &Shared, node: &Node, server: &UdpSocket) {
    let mut counted = None;
    let every = shared.options.interval;
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut alive = interval(ALIVE);
    let mut number = 0_u16;
    loop {
        let (path, text, values) = tokio::select! {
            _ = alive.tick() => ("alive", format!("alive:{}", node.uid), 0),
            _ = ticks.tick(), if counted.is_some() => {
                let (name, value) = node.change();
                ("server", format!("{name}:{value}"), 1)
            }
        };
        number = number.wrapping_add(1);
        match post(shared, server, path, &text, number).await {
            Ok(()) => {
                shared.tally.said(values);
                counted.get_or_insert_with(|| shared.connected());
            }
            Err(error) => {
                tracing::debug!(%error, "a node was not answered");
                shared.tally.lost.fetch_add(1, Ordering::Relaxed);
                if path == "alive" {
                    counted = None;
                    alive.reset_after(ACK_TIMEOUT);
                }
            }
        }
    }
}

/// Sends a confirmable POST, and waits for 2.04.
async fn post(shared: &Shared, server: &UdpSocket, path: &str, text: &str, number: u16) -> io::Result<()> {
    let gateway = shared.gateway()?;
    let socket = UdpSocket::bind(SocketAddr::new(server.local_addr()?.ip(), 0)).await?;
    socket.connect(gateway).await?;
    let mut request = Packet::new();
    request.header.set_type(MessageType::Confirmable);
    request.header.code = MessageClass::Request(RequestType::Post);
    request.header.message_id = number;
    request.set_token(number.to_be_bytes().to_vec());
    request.add_option(CoapOption::UriPath, path.as_bytes().to_vec());
    request.set_content_format(ContentFormat::TextPlain);
    request.payload = text.as_bytes().to_vec();
    let bytes = request.to_bytes().map_err(io::Error::other)?;
    let mut wait = ACK_TIMEOUT;
    for _ in 0..ATTEMPTS_MAX {
        socket.send(&bytes).await?;
        match timeout(wait, response(&socket, &request)).await {
            Ok(answered) => return answered,
            Err(_) => wait *= 2,
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Waits for the response to a request, which may be in its acknowledgement or come later.
async fn response(socket: &UdpSocket, request: &Packet) -> io::Result<()> {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(packet) = Packet::from_bytes(&buffer[..length]) else { continue };
        let is_ours = packet.header.message_id == request.header.message_id;
        match (packet.header.get_type(), packet.header.code) {
            (MessageType::Reset, _) if is_ours => return Err(io::ErrorKind::ConnectionReset.into()),
            (MessageType::Acknowledgement, MessageClass::Empty) if is_ours => {
                let later = timeout(RESPONSE_WAIT, separate(socket, request));
                return later.await.map_err(|_| io::ErrorKind::TimedOut)?;
            }
            (_, MessageClass::Response(code)) if packet.get_token() == request.get_token() => {
                return acknowledged(socket, &packet, code).await;
            }
            _ => {}
        }
    }
}

/// A response that comes apart from the acknowledgement (§5.2.2).
async fn separate(socket: &UdpSocket, request: &Packet) -> io::Result<()> {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(packet) = Packet::from_bytes(&buffer[..length]) else { continue };
        match packet.header.code {
            MessageClass::Response(code) if packet.get_token() == request.get_token() => {
                return acknowledged(socket, &packet, code).await;
            }
            _ => {}
        }
    }
}

async fn acknowledged(socket: &UdpSocket, response: &Packet, code: ResponseType) -> io::Result<()> {
    if response.header.get_type() == MessageType::Confirmable {
        let bytes = empty(MessageType::Acknowledgement, response.header.message_id)?;
        socket.send(&bytes).await?;
    }
    match code {
        ResponseType::Changed => Ok(()),
        code => Err(io::Error::other(format!("the gateway answers {code:?}"))),
    }
}

fn empty(kind: MessageType, message_id: u16) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.code = MessageClass::Empty;
    packet.header.message_id = message_id;
    packet.to_bytes().map_err(io::Error::other)
}

/// Answers what the gateway asks.
async fn serve(shared: &Shared, node: &Node, server: &UdpSocket) {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    loop {
        let answered = async {
            let (length, from) = server.recv_from(&mut buffer).await?;
            if let Some(answer) = answer(shared, node, &buffer[..length])? {
                server.send_to(&answer, from).await?;
            }
            io::Result::Ok(())
        };
        if let Err(error) = answered.await {
            // Such as that the gateway has gone.
            tracing::debug!(%error, "a node did not answer");
        }
    }
}

/// The answer to a datagram; a ping is answered with a reset (RFC 7252 §4.3).
fn answer(shared: &Shared, node: &Node, datagram: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let Ok(request) = Packet::from_bytes(datagram) else { return Ok(None) };
    let is_confirmable = request.header.get_type() == MessageType::Confirmable;
    let method = match request.header.code {
        MessageClass::Empty if is_confirmable => {
            return empty(MessageType::Reset, request.header.message_id).map(Some);
        }
        MessageClass::Request(method) => method,
        _ => return Ok(None),
    };
    let path = request.get_option(CoapOption::UriPath).into_iter().flatten();
    let path: Vec<_> = path.map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    let path = path.join("/");
    let mut response = Packet::new();
    let (kind, message_id) = (
        if is_confirmable { MessageType::Acknowledgement } else { MessageType::NonConfirmable },
        request.header.message_id,
    );
    response.header.set_type(kind);
    response.header.message_id = message_id;
    response.set_token(request.get_token().to_vec());
    let code = match (method, &*path) {
        (RequestType::Get, ".well-known/core") => {
            let links: Vec<_> = Node::names().map(|name| format!("</{name}>")).collect();
            response.set_content_format(ContentFormat::ApplicationLinkFormat);
            response.payload = links.join(",").into_bytes();
            ResponseType::Content
        }
        (RequestType::Get, name) => match node.value(name) {
            Some(value) => {
                response.set_content_format(ContentFormat::TextPlain);
                response.payload = value.into_bytes();
                ResponseType::Content
            }
            None => ResponseType::NotFound,
        },
        (RequestType::Put, name) => match node.set(name, &request.payload) {
            Ok(_) => {
                shared.tally.writes.fetch_add(1, Ordering::Relaxed);
                ResponseType::Changed
            }
            Err(NotSet::Unknown) => ResponseType::NotFound,
            Err(NotSet::ReadOnly) => ResponseType::MethodNotAllowed,
            Err(NotSet::Value) => ResponseType::BadRequest,
        },
        _ => ResponseType::MethodNotAllowed,
    };
    response.header.code = MessageClass::Response(code);
    response.to_bytes().map(Some).map_err(io::Error::other)
}
