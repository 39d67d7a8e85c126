//! A gateway on a UDP socket: one task, one timer. Its owner gets events by a channel, and asks by a [`Handle`].
//!
//! While the owner does not take events, no datagrams are read: they wait in the system, which drops what is too much, and
//! the clients repeat it.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::packet::Violation;
use super::session::{
    Answer, Client, Counts, DATAGRAM_BYTES_MAX, Delivery, Event, Gateway, Message, Output, Receipt, Sent,
    Settings,
};

/// How many events of MQTT-SN wait for the owner.
/// Limit for each gateway: datagrams wait in the system.
pub const EVENTS_MAX: usize = 1_024;
/// How many commands of the owner wait for the socket of MQTT-SN.
/// Limit for each gateway: a further one is refused, and what a client wanted to have acknowledged it sends again.
pub const COMMANDS_MAX: usize = 16_384;
/// How many datagrams are read before something else is looked at.
const BATCH: usize = 64;
/// How many bytes the system is asked to keep for the socket; it may keep less.
const SYSTEM_BYTES: usize = 1 << 20;
/// Of how many addresses it is told in a minute that they send what is refused.
/// Limit for each gateway: others are told together.
const SOURCES_TOLD_MAX: usize = 1_024;
/// How often a refusal is told of one address.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Pause after nothing could be read.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// What an owner asks of its gateway.
#[derive(Debug)]
enum Command {
    Publish { client: Client, token: u64, topic: Arc<str>, payload: Box<[u8]>, is_acknowledged: bool },
    Withdraw { client: Client, token: u64 },
    Accepted(Receipt, Answer),
    Disconnect(Client),
}

/// What has happened on a socket, for whoever wants to know it meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Counting(Arc<Mutex<Counts>>);

impl Counting {
    /// As of now.
    #[must_use]
    pub fn now(&self) -> Counts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, counts: Counts) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

/// How an owner asks its gateway. None of it waits.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: Sender<Command>,
}

impl Handle {
    /// Publishes to a client. One [`Event::Delivered`] with the token follows, unless it is withdrawn. False if the
    /// gateway has ended, or has too much to do.
    #[must_use]
    pub fn publish(
        &self,
        client: Client,
        token: u64,
        topic: Arc<str>,
        payload: Box<[u8]>,
        is_acknowledged: bool,
    ) -> bool {
        self.ask(Command::Publish { client, token, topic, payload, is_acknowledged })
    }

    /// A message that waits for a client is not to be sent any more.
    pub fn withdraw(&self, client: Client, token: u64) {
        // Otherwise it is sent: that does no harm.
        self.ask(Command::Withdraw { client, token });
    }

    /// Answers a message of a client.
    pub fn accepted(&self, receipt: Receipt, answer: Answer) {
        // Otherwise the client repeats it.
        self.ask(Command::Accepted(receipt, answer));
    }

    /// Ends a connection. False if the gateway has ended, or has too much to do.
    #[must_use]
    pub fn disconnect(&self, client: Client) -> bool {
        self.ask(Command::Disconnect(client))
    }

    fn ask(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }
}

/// A socket that a gateway may be started on.
#[derive(Debug)]
pub struct Socket {
    udp: UdpSocket,
    is_ipv6: bool,
    counting: Counting,
}

impl Socket {
    /// Binds an address. The unspecified one of IPv6 takes IPv4, too.
    ///
    /// # Errors
    /// The system does not give it.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        } else {
            // For ADVERTISE (§6.1).
            socket.set_broadcast(true)?;
        }
        if let Err(error) = socket.set_recv_buffer_size(SYSTEM_BYTES) {
            tracing::debug!(%error, "the system keeps no more bytes for the socket");
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let udp = UdpSocket::from_std(socket.into())?;
        Ok(Self { udp, is_ipv6: address.is_ipv6(), counting: Counting::default() })
    }

    /// Binds a port of all addresses, of IPv6 and IPv4; of IPv4 alone where the system has no IPv6.
    ///
    /// # Errors
    /// The system does not give it.
    pub fn bind_all(port: u16) -> io::Result<Self> {
        Self::bind((Ipv6Addr::UNSPECIFIED, port).into())
            .or_else(|_| Self::bind((Ipv4Addr::UNSPECIFIED, port).into()))
    }

    /// The address that was bound.
    ///
    /// # Errors
    /// The system does not know it.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// What happens on it, once it is started.
    #[must_use]
    pub fn counting(&self) -> Counting {
        self.counting.clone()
    }

    /// Starts a gateway. It runs as long as the future is polled, and ends soon after `stop`, or when the events are not
    /// received any more. Its clients then hear DISCONNECT.
    pub fn start(
        self,
        mut settings: Settings,
        stop: CancellationToken,
    ) -> (Handle, Receiver<Event>, impl Future<Output = ()> + Send) {
        settings.seed ^= RandomState::new().hash_one(0);
        let (commands, of_owner) = channel(COMMANDS_MAX);
        let (events, to_owner) = channel(EVENTS_MAX);
        let handle = Handle { commands };
        let running = Running {
            socket: self,
            gateway: Gateway::new(settings),
            began: Instant::now(),
            out: Output::default(),
            told: Told::new(),
        };
        (handle, to_owner, running.run(events, of_owner, stop))
    }

    async fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let to = match to {
            SocketAddr::V4(to) if self.is_ipv6 => SocketAddr::from((to.ip().to_ipv6_mapped(), to.port())),
            to => to,
        };
        if let Err(error) = self.udp.send_to(datagram, to).await {
            tracing::debug!(address = %to, %error, "a datagram could not be sent");
        }
    }
}

struct Running {
    socket: Socket,
    gateway: Gateway,
    began: Instant,
    out: Output,
    told: Told,
}

impl Running {
    async fn run(mut self, events: Sender<Event>, mut commands: Receiver<Command>, stop: CancellationToken) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
        let mut has_owner = true;
        loop {
            let due = self.gateway.due_ms().map(|due_ms| self.began + Duration::from_millis(due_ms));
            // Without a timer the branch is off.
            let at = due.unwrap_or(self.began);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = events.closed() => break,
                place = events.reserve(), if !self.out.events.is_empty() => {
                    let Ok(place) = place else { break };
                    if let Some(event) = self.out.events.pop_front() {
                        place.send(event);
                    }
                }
                command = commands.recv(), if has_owner => match command {
                    Some(command) => self.carry_out(command),
                    None => has_owner = false,
                },
                () = sleep_until(at), if due.is_some() => {
                    let now_ms = self.now_ms();
                    self.gateway.timer(now_ms, &mut self.out);
                }
                received = self.socket.udp.recv_from(&mut buffer), if self.out.events.is_empty() => {
                    self.read(received, &mut buffer).await;
                }
            }
            self.send_all().await;
            self.socket.counting.set(self.gateway.counts());
        }
        self.gateway.shut_down(&mut self.out);
        self.send_all().await;
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes what has come, and what else is there.
    async fn read(&mut self, mut received: io::Result<(usize, SocketAddr)>, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            match received {
                Ok((length, from)) => {
                    let now_ms = self.now_ms();
                    let datagram = &buffer[..length];
                    if let Err(violation) = self.gateway.datagram(from, datagram, now_ms, &mut self.out) {
                        self.told.tell(from, violation);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::warn!(%error, "no datagram could be read");
                    sleep(ERROR_PAUSE).await;
                    return;
                }
            }
            received = self.socket.udp.try_recv_from(buffer);
        }
    }

    fn carry_out(&mut self, command: Command) {
        let now_ms = self.now_ms();
        match command {
            Command::Accepted(receipt, answer) => self.gateway.accepted(receipt, answer, &mut self.out),
            Command::Disconnect(client) => self.gateway.disconnect_client(client, now_ms, &mut self.out),
            Command::Publish { client, token, topic, payload, is_acknowledged } => {
                let message = Message { token, topic: &topic, payload: &payload, is_acknowledged };
                let delivery = match self.gateway.publish(client, &message, now_ms, &mut self.out) {
                    Sent::Taken => return,
                    sent => Delivery::NotSent(sent),
                };
                self.out.events.push_back(Event::Delivered { client, token, delivery });
            }
            Command::Withdraw { client, token } => self.gateway.withdraw(client, token),
        }
    }

    async fn send_all(&mut self) {
        for (to, datagram) in self.out.datagrams() {
            self.socket.send(to, datagram).await;
        }
        self.out.clear_datagrams();
    }
}

/// Of whose faults was told in this minute.
struct Told {
    since: Instant,
    sources: HashSet<IpAddr>,
    /// How many faults were not told.
    untold: u64,
}

impl Told {
    fn new() -> Self {
        Self { since: Instant::now(), sources: HashSet::new(), untold: 0 }
    }

    /// Says what is wrong, once for each source and minute.
    fn tell(&mut self, from: SocketAddr, violation: Violation) {
        if self.since.elapsed() >= TELL_AGAIN {
            if self.untold > 0 {
                tracing::warn!(count = self.untold, "datagrams refused that were not told one by one");
            }
            *self = Self::new();
        }
        if self.sources.len() < SOURCES_TOLD_MAX && self.sources.insert(from.ip().to_canonical()) {
            tracing::warn!(address = %from, %violation, "MQTT-SN: datagram refused");
        } else {
            self.untold += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_once_for_each_address() {
        let mut told = Told::new();
        let violation = Violation::new("5.2.1", "the datagram is empty");
        for port in 1..=3 {
            told.tell(SocketAddr::from(([192, 0, 2, 1], port)), violation);
        }
        assert_eq!((told.sources.len(), told.untold), (1, 2));
        for number in 0..2_000_u32 {
            told.tell(SocketAddr::from((std::net::Ipv4Addr::from(number), 1)), violation);
        }
        assert_eq!(
            (told.sources.len(), told.untold),
            (SOURCES_TOLD_MAX, 2_002 - SOURCES_TOLD_MAX as u64 + 1)
        );
    }
}
