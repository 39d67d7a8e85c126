//! One connection to RabbitMQ: which host, TLS, and how long it may take.

use std::sync::Arc;
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, ErrorKind};
use rand::seq::SliceRandom;
use tokio_rustls::TlsConnector;

use crate::amqp::socket;
use crate::amqp::{AmqpError, Options};
use crate::tls;

/// What the largest MQTT packet may fill, in bytes: 1 MiB of user properties.
const FRAME_BYTES_MIN: u32 = 1024 * 1024;
/// How long one host may take, TLS and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the first host that answers, in an order drawn by lot so that
/// servers spread over a cluster. `role` names the connection for operators.
pub(super) async fn open(options: &Options, role: &str) -> Result<Connection, AmqpError> {
    open_in(options, role, options.vhost()).await
}

/// The same, in another virtual host.
pub(super) async fn open_in(options: &Options, role: &str, vhost: &str) -> Result<Connection, AmqpError> {
    // The files are read each time: they may have been renewed.
    let connector = if options.is_tls() {
        Some(TlsConnector::from(Arc::new(tls::client_config(options.tls.as_ref())?)))
    } else {
        None
    };
    let mut uris = options.uris.clone();
    uris.shuffle(&mut rand::rng());
    let mut problem = String::new();
    for mut uri in uris {
        vhost.clone_into(&mut uri.vhost);
        let host = uri.authority.host.clone();
        match one(uri, connector.clone(), &format!("covey {} {role}", options.server)).await {
            Ok(connection) => {
                warn_of_small_frames(&connection);
                return Ok(connection);
            }
            Err(error) if is_refusal(&error) => {
                let problem = error.to_string();
                let (user, vhost) = (options.user().to_owned(), vhost.to_owned());
                return Err(AmqpError::Credentials { user, vhost, problem });
            }
            Err(error) => {
                tracing::debug!(host, role, %error, "RabbitMQ host does not answer");
                problem = error.to_string();
            }
        }
    }
    Err(AmqpError::Unreachable { hosts: options.hosts(), problem })
}

/// The headers of a message are one frame, and a device's user properties are
/// headers: what does not fit ends the connection.
fn warn_of_small_frames(connection: &Connection) {
    let frame_bytes_max = connection.configuration().frame_max();
    if frame_bytes_max != 0 && frame_bytes_max < FRAME_BYTES_MIN {
        tracing::warn!(
            frame_bytes_max,
            "frame_max of RabbitMQ is smaller than the largest MQTT packet: user properties of a device could end \
             this connection; set frame_max = 2097152 in rabbitmq.conf"
        );
    }
}

async fn one(uri: AMQPUri, tls: Option<TlsConnector>, name: &str) -> lapin::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connect = async move |uri: AMQPUri, _| Ok(socket::connect(&uri, tls.as_ref()).await?);
    let connecting = Connection::connector(uri, socket::runtime(), connect, properties);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// Whether the broker understood who connects and does not let it in.
fn is_refusal(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    match error.kind() {
        AMQPErrorKind::Soft(_) => true,
        AMQPErrorKind::Hard(kind) => matches!(kind, AMQPHardError::NOTALLOWED),
    }
}

/// Closes a connection in an orderly way, or leaves it to the broker to notice.
pub(super) async fn close(connection: &Connection) {
    let closing = connection.close(200, "the server stops".into());
    let _ = tokio::time::timeout(Duration::from_secs(2), closing).await;
}
