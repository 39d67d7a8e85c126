//! A TCP unit: a server that holds one connection at a time.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::node::Node;
use super::{Counted, Shared, UnitKind};

/// After how long a silence an update unit takes what it has read, as firmware does.
const SILENCE: Duration = Duration::from_secs(1);
/// Longest line that is taken, in bytes.
const LINE_BYTES_MAX: usize = 1_024;
/// How many connections wait while one is open.
const BACKLOG: u32 = 4;

pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lives until `stop`. Who connects meanwhile waits until the connection before has ended.
pub(super) async fn run(
    shared: &Shared,
    node: Node,
    listener: &TcpListener,
    kind: UnitKind,
    stop: &CancellationToken,
) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a unit takes no connection");
                sleep(SILENCE).await;
                continue;
            }
        };
        let _counted = Counted::new(&shared.tally);
        let served = async {
            match kind {
                UnitKind::Read => tell(shared, &node, stream).await,
                UnitKind::Update => take(shared, &node, stream).await,
            }
        };
        if let Some(Err(error)) = stop.run_until_cancelled(served).await {
            tracing::debug!(%error, "a connection of a unit has ended");
        }
    }
}

/// Sends a measurement a line, until the other end is gone.
async fn tell(shared: &Shared, node: &Node, stream: TcpStream) -> io::Result<()> {
    let (mut reading, mut writing) = stream.into_split();
    let telling = async {
        loop {
            writing.write_all(format!("{}\n", node.measure()).as_bytes()).await?;
            shared.tally.said(1);
            sleep(shared.options.interval).await;
        }
    };
    let ended = async {
        let mut ignored = [0; 64];
        while reading.read(&mut ignored).await? > 0 {}
        Ok(())
    };
    tokio::select! {
        told = telling => told,
        ended = ended => ended,
    }
}

/// Takes one line, up to `\r` or a second of silence, and closes.
async fn take(shared: &Shared, node: &Node, mut stream: TcpStream) -> io::Result<()> {
    let mut line = Vec::new();
    while line.len() < LINE_BYTES_MAX {
        match timeout(SILENCE, stream.read_u8()).await {
            Ok(Ok(b'\r')) | Err(_) => break,
            Ok(Ok(byte)) => line.push(byte),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Ok(Err(error)) => return Err(error),
        }
    }
    if !line.is_empty() && node.set("led", &line).is_ok() {
        shared.tally.writes.fetch_add(1, Ordering::Relaxed);
        tracing::info!(unit = node.uid, value = %String::from_utf8_lossy(&line), "a unit was set");
    }
    Ok(())
}
