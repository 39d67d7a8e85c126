//! From a request to a WebSocket (RFC 6455 §4.2) on a connection that an HTTP server has accepted.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::task::TaskTracker;

/// The connection below a WebSocket that was a request.
pub type Below = TokioIo<Upgraded>;

/// Whether a request asks for a WebSocket.
#[must_use]
pub fn is_wanted(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Answers a request with the upgrade; `serve` has the WebSocket after it, as one of these tasks.
pub fn accept<F>(
    mut request: Request,
    config: WebSocketConfig,
    tasks: &TaskTracker,
    serve: impl FnOnce(WebSocketStream<Below>) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(response) = create_response_with_body(&request, Body::empty) else {
        let hint = [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade")];
        return (StatusCode::UPGRADE_REQUIRED, hint, "a WebSocket is spoken here (RFC 6455, version 13)\n")
            .into_response();
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return (StatusCode::UPGRADE_REQUIRED, "this connection cannot become a WebSocket\n").into_response();
    };
    tasks.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let below = TokioIo::new(upgraded);
                serve(WebSocketStream::from_raw_socket(below, Role::Server, Some(config)).await).await;
            }
            Err(error) => tracing::debug!(%error, "a connection did not become a WebSocket"),
        }
    });
    response
}
