//! The network between devices and the server: streams in memory that delay, split, lose and cut.
//!
//! What TCP promises holds: bytes come in order and once, or the connection is over. What it does not
//! promise happens: nobody is told of an end, bytes of a connection come long after its device has begun
//! another, one direction is dead while the other still works.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use covey_net::{Accepted, Incoming, PeerCertificate, Socket, Stream};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

/// Room in each direction, in bytes: about what two systems keep of a connection.
const ROOM_BYTES: usize = 64 * 1024;
/// When a peer that does not answer is taken for dead, in seconds (`covey_net::Stream::watch_for_death`).
const DEATH_S: u64 = 420;

/// One direction of a line.
#[derive(Default)]
struct Way {
    /// What is under way, each with the instant at which it arrives.
    pieces: VecDeque<(Instant, Vec<u8>)>,
    /// Bytes that have no place in the receiver yet.
    queued: usize,
    /// When the last piece arrives: nothing overtakes it.
    last_at: Option<Instant>,
    /// When and how it ends for who reads.
    end: Option<(Instant, End)>,
    /// Whatever is written from now on is lost, and nobody says so.
    is_dark: bool,
    /// Who reads has gone.
    is_unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy)]
enum End {
    /// Nothing follows.
    Finished,
    /// The connection was lost.
    Lost,
}

impl Way {
    fn write(&mut self, bytes: &[u8], latency: Duration, random: &mut StdRng) {
        self.queued += bytes.len();
        if self.is_dark {
            return;
        }
        let (mut rest, mut at) = (bytes, Instant::now() + latency);
        while !rest.is_empty() {
            // Now and then a packet comes in pieces.
            let length =
                if random.random_bool(0.1) { random.random_range(1..=rest.len()) } else { rest.len() };
            let (piece, after) = rest.split_at(length);
            at = at.max(self.last_at.unwrap_or(at)) + Duration::from_millis(random.random_range(0..2));
            self.last_at = Some(at);
            self.pieces.push_back((at, piece.to_vec()));
            rest = after;
        }
        wake(&mut self.reader);
    }

    /// Ready when there is something to read now, or the end.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let next = match (self.pieces.front(), self.end) {
                (Some((at, _)), _) => Some(*at),
                (None, Some((at, _))) => Some(at),
                (None, None) => None,
            };
            self.reader = Some(context.waker().clone());
            let Some(at) = next else { return Poll::Pending };
            if at <= Instant::now() {
                return Poll::Ready(());
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let now = Instant::now();
        match self.pieces.front_mut() {
            Some((at, piece)) if *at <= now => {
                let count = piece.len().min(buffer.len());
                buffer[..count].copy_from_slice(&piece[..count]);
                piece.drain(..count);
                if piece.is_empty() {
                    self.pieces.pop_front();
                }
                self.queued = self.queued.saturating_sub(count);
                wake(&mut self.writer);
                Ok(count)
            }
            Some(_) => Err(io::ErrorKind::WouldBlock.into()),
            None => match self.end {
                Some((at, End::Finished)) if at <= now => Ok(0),
                Some((at, End::Lost)) if at <= now => Err(io::ErrorKind::ConnectionReset.into()),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            },
        }
    }

    fn end(&mut self, at: Instant, how: End) {
        if self.end.is_none() {
            self.end = Some((at.max(self.last_at.unwrap_or(at)), how));
            wake(&mut self.reader);
        }
    }

    fn is_lost(&self) -> bool {
        matches!(self.end, Some((at, End::Lost)) if at <= Instant::now())
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

struct Line {
    up: Way,
    down: Way,
    latency: Duration,
    random: StdRng,
    /// The server wants to know when the device is dead.
    is_watched: bool,
    /// The server has been killed: what is left of it is not heard.
    is_killed: bool,
}

impl Line {
    /// The server is killed: the system closes its end. What it had written still arrives, or the reset is faster.
    fn kill(&mut self) {
        let now = Instant::now();
        self.is_killed = true;
        self.up.is_unread = true;
        self.up.pieces.clear();
        self.up.last_at = None;
        self.up.end = Some((now, End::Lost));
        wake(&mut self.up.reader);
        wake(&mut self.down.writer);
        if self.down.is_dark {
            return;
        }
        if self.random.random_bool(0.5) {
            self.down.pieces.clear();
            self.down.last_at = None;
        }
        let arrives = now + self.latency;
        self.down.end(arrives, End::Lost);
    }
}

type Shared = Arc<Mutex<Line>>;

fn lock(line: &Shared) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a device's connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Both sides learn of it; what is under way may be lost.
    Reset,
    /// The device is gone and nobody says so; what it has sent still arrives.
    Silent,
    /// The same, and what is under way is lost.
    SilentAndLost,
    /// The device closes in good order.
    Finished,
    /// The device begins another while this one is open.
    LeftOpen,
}

/// The device's end of a line.
pub struct DeviceEnd(Shared);

impl DeviceEnd {
    /// Waits until something has come, and adds it to `bytes`; no at the end.
    pub async fn read(&self, bytes: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 4_096];
        poll_fn(|context| lock(&self.0).down.poll_readable(context)).await;
        loop {
            match lock(&self.0).down.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Sends; nobody knows whether it arrives.
    pub fn write(&self, bytes: &[u8]) {
        let mut line = lock(&self.0);
        let Line { up, latency, random, .. } = &mut *line;
        if !up.is_unread && up.end.is_none() {
            up.write(bytes, *latency, random);
        }
    }

    /// From now on nothing of the server arrives, and nobody says so.
    pub fn go_deaf(&self) {
        lock(&self.0).down.is_dark = true;
    }

    /// Ends the connection.
    pub fn cut(self, how: Cut) {
        let mut line = lock(&self.0);
        let arrives = Instant::now() + line.latency;
        match how {
            Cut::Finished | Cut::LeftOpen => line.up.end(arrives, End::Finished),
            Cut::Reset => {
                let now = Instant::now();
                if line.random.random_bool(0.5) {
                    line.up.pieces.retain(|(at, _)| *at <= now);
                    line.up.last_at = None;
                }
                line.up.end(arrives, End::Lost);
            }
            Cut::Silent | Cut::SilentAndLost => {
                if how == Cut::SilentAndLost {
                    line.up.pieces.clear();
                }
                line.up.is_dark = true;
                if line.is_watched {
                    line.up.end(Instant::now() + Duration::from_secs(DEATH_S), End::Lost);
                }
            }
        }
        line.down.is_dark = true;
        line.down.pieces.clear();
    }
}

/// The server's end of a line.
struct ServerEnd(Shared);

impl Stream for ServerEnd {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).up.poll_readable(context).map(Ok)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        lock(&self.0).up.read(buffer)
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut line = lock(&self.0);
        if line.up.is_lost() || line.down.queued < ROOM_BYTES {
            return Poll::Ready(Ok(()));
        }
        line.down.writer = Some(context.waker().clone());
        Poll::Pending
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut line = lock(&self.0);
        if line.up.is_lost() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let room = ROOM_BYTES.saturating_sub(line.down.queued).min(bytes.len());
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Line { down, latency, random, .. } = &mut *line;
        down.write(&bytes[..room], *latency, random);
        Ok(room)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        let mut line = lock(&self.0);
        let arrives = Instant::now() + line.latency;
        if !line.down.is_dark && !line.is_killed {
            line.down.end(arrives, End::Finished);
        }
        Ok(())
    }

    fn watch_for_death(&self) {
        lock(&self.0).is_watched = true;
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let mut line = lock(&self.0);
        let arrives = Instant::now() + line.latency;
        line.up.is_unread = true;
        line.up.pieces.clear();
        if !line.down.is_dark {
            line.down.end(arrives, End::Lost);
        }
    }
}

/// Where devices dial.
#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<Host>>);

/// The machine of the server.
#[derive(Default)]
struct Host {
    /// The server that listens, if one does.
    accepted: Option<mpsc::UnboundedSender<Accepted>>,
    lines: Vec<Weak<Mutex<Line>>>,
    /// From so many lines on those that are gone are forgotten.
    forget_at: usize,
}

/// How many lines are known before those that are gone are forgotten.
const LINES_MIN: usize = 1_024;

/// Where their connections come out.
pub struct Listener(tokio::sync::Mutex<mpsc::UnboundedReceiver<Accepted>>);

impl Network {
    fn host(&self) -> MutexGuard<'_, Host> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server listens from now on, in place of one before.
    #[must_use]
    pub fn listen(&self) -> Listener {
        let (accepted, connections) = mpsc::unbounded_channel();
        self.host().accepted = Some(accepted);
        Listener(tokio::sync::Mutex::new(connections))
    }

    /// The server is killed, and with it all connections: nothing that is left of it is heard, and nobody listens.
    pub fn kill(&self) {
        let mut host = self.host();
        host.accepted = None;
        for line in host.lines.drain(..).filter_map(|line| line.upgrade()) {
            lock(&line).kill();
        }
    }

    /// A device dials, with such a delay of each direction in milliseconds.
    #[must_use]
    pub fn dial(&self, device: u32, certificate: PeerCertificate, latency_ms: u64, seed: u64) -> DeviceEnd {
        let line = Arc::new(Mutex::new(Line {
            up: Way::default(),
            down: Way::default(),
            latency: Duration::from_millis(latency_ms),
            random: StdRng::seed_from_u64(seed),
            is_watched: false,
            is_killed: false,
        }));
        let mut host = self.host();
        if host.lines.len() >= host.forget_at.max(LINES_MIN) {
            host.lines.retain(|line| line.strong_count() > 0);
            host.forget_at = host.lines.len() * 2;
        }
        host.lines.push(Arc::downgrade(&line));
        let address = SocketAddr::new(Ipv4Addr::from_bits(0x0a00_0000 | device).into(), 1_883);
        let socket = Socket::Stream(Box::new(ServerEnd(Arc::clone(&line))));
        let accepted = Accepted { socket, address, certificate: Some(certificate) };
        match &host.accepted {
            // Who does not take it drops it, which the device sees.
            Some(server) => drop(server.send(accepted)),
            // Nobody listens: the machine refuses.
            None => lock(&line).kill(),
        }
        DeviceEnd(line)
    }
}

impl Incoming for Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self.0.lock().await.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }
}
