//! The TLS handshake of a connection that has just been accepted.

use std::future::poll_fn;

use crate::gate::HalfOpen;
use crate::listener::Established;
use crate::refusal::Refused;
use crate::server_tls::ServerTls;
use crate::socket::Accepted;
use crate::transport::{Ended, Transport};

/// Takes a connection through its handshake, if there is TLS. Answers none for a client that left
/// without a byte, as scanners and the health checks of load balancers do.
///
/// # Errors
/// Why it is not let in. If TLS failed, the client has been sent an alert.
pub(crate) async fn shake_hands(
    accepted: Accepted,
    tls: Option<&ServerTls>,
    half_open: &HalfOpen,
) -> Result<Option<Established>, Refused> {
    // Messages are small and wanted at once.
    let Accepted { socket, address, certificate } = accepted;
    if socket.set_nodelay().is_err() {
        return Ok(None);
    }
    let failed = |error: rustls::Error| Refused::Handshake(error.to_string());
    let mut early = Vec::new();
    if tls.is_none() {
        half_open.begun();
        let transport = Transport::new(socket, None).map_err(failed)?;
        return Ok(Some(Established { transport, early, certificate, address }));
    }
    // Who says nothing takes no memory of those who do.
    if !socket.begins().await {
        return Ok(None);
    }
    let mut transport = Transport::new(socket, tls).map_err(failed)?;
    while transport.is_handshaking() {
        match poll_fn(|context| transport.poll_read(context, &mut early)).await {
            Ok(()) => {}
            Err(Ended::Tls(error)) => {
                transport.finish().await;
                return Err(failed(error));
            }
            Err(ended) => return Err(Refused::Left(ended.to_string())),
        }
        if transport.has_answered() {
            half_open.begun();
        }
        poll_fn(|context| transport.poll_flush(context))
            .await
            .map_err(|ended| Refused::Left(ended.to_string()))?;
    }
    // With TLS 1.3 the client's last message has no answer, and CONNECT may wait behind it.
    transport.acknowledge();
    let is_optional = tls.is_some_and(ServerTls::is_certificate_optional);
    let issuers = tls.and_then(ServerTls::issuers);
    let certificate =
        transport.peer_certificate(is_optional, issuers.as_deref()).map_err(Refused::Certificate)?;
    early.shrink_to_fit();
    Ok(Some(Established { transport, early, certificate, address }))
}
