//! TCP units: microcontrollers that are servers on port 8888 and hold one connection at a time. A read unit sends a
//! measurement a line as long as a connection is open; an updatable one takes one line for each connection.

mod config;
mod found;
mod lines;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rand::RngExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::{Gateway, Protocol};
use crate::node::{Answer, Confirmation, Gone, Habits};
use crate::port::Port;
use crate::value::{json_of, text_of};
pub use config::{Kind, Unit, announced, read, read_base_unit};
pub use found::{UNITS_FOUND_MAX, serve_found};
use lines::{Line, Lines};

/// How long a connection to a unit may take, in milliseconds.
/// Limit for each attempt: it is given up, and made again.
const CONNECT_MS_MAX: u64 = 5_000;
/// How long a unit may take to take a line, in milliseconds.
/// Limit for each write: it is given up, and made again.
const SEND_MS_MAX: u64 = 5_000;
/// The first pause before a unit is tried again, in milliseconds; each is twice as long as the one before.
const PAUSE_MS: u64 = 1_000;
/// And the longest.
/// Limit for each unit: it is tried again after so long, for ever.
const PAUSE_MS_MAX: u64 = 60_000;
/// How long a unit that could not be reached is left alone before a write is tried again, in milliseconds.
const REST_MS: u64 = 5_000;
/// How often an updatable unit is said to be here, in milliseconds.
const STAY_MS: u64 = 10_000;
/// For how long the lines of units are gathered that come close upon each other, in milliseconds: units say one in a
/// second or so.
const TOGETHER_MS: u64 = 20;
/// After how long a silence a read unit is asked by the network whether it is there, in seconds.
const PROBE_AFTER_S: u64 = 30;
/// How often it is asked then, in seconds.
const PROBE_EVERY_S: u64 = 10;
/// How often it may leave that unanswered.
/// Limit for each read unit: its connection is made anew.
const PROBES_MAX: u32 = 3;
/// Longest value of a write, in bytes.
/// Limit for each write: 400.
const LINE_BYTES_MAX: usize = 1_024;

/// How units behave: a read unit is out when its connection ends, or when it says nothing for so long.
#[must_use]
pub const fn habits() -> Habits {
    Habits {
        silence_ms_max: None,
        confirmation: Confirmation::Answer,
        reports_are_life: false,
        together_ms: TOGETHER_MS,
    }
}

/// What the gateway counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections to units.
    pub connected: AtomicU64,
    /// Attempts to connect that failed.
    pub not_connected: AtomicU64,
    /// Lines that were passed on.
    pub lines: AtomicU64,
    /// Lines that are too long, or no text.
    pub lines_left_out: AtomicU64,
    /// Values that were sent.
    pub writes: AtomicU64,
    /// Values that were not sent, however often each was tried.
    pub writes_failed: AtomicU64,
}

impl Counts {
    /// What was counted, each with its name in the measurements.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        [
            ("connected", &self.connected),
            ("not_connected", &self.not_connected),
            ("lines", &self.lines),
            ("lines_left_out", &self.lines_left_out),
            ("writes", &self.writes),
            ("writes_failed", &self.writes_failed),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
        .to_vec()
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// The gateway of TCP units.
pub struct Units<P: Port> {
    gateway: Arc<Gateway<P>>,
    counts: Arc<Counts>,
    spoken_with: Mutex<HashMap<String, Arc<Spoken>>>,
    stop: CancellationToken,
    this: Weak<Self>,
}

/// A unit that is spoken with, and what is under way with it.
struct Spoken {
    unit: Arc<Unit>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Until when it is left alone, since it could not be reached.
    rests_until: Mutex<Option<Instant>>,
}

impl Spoken {
    fn rest_until(&self, until: Instant) {
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn rests(&self) -> bool {
        let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > Instant::now())
    }

    /// Does something with the unit, as long as it is listed so.
    fn spawn(&self, what: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(what).await;
        });
    }
}

/// Speaks with those units that are listed at the time, until `stop`. When the other end of `listed` is gone the list
/// stays as it is.
pub async fn serve<P: Port>(
    gateway: Arc<Gateway<P>>,
    mut listed: watch::Receiver<Vec<Unit>>,
    counts: Arc<Counts>,
    stop: CancellationToken,
) {
    let units = Arc::new_cyclic(|this| Units {
        gateway: Arc::clone(&gateway),
        counts,
        spoken_with: Mutex::default(),
        stop: stop.clone(),
        this: Weak::clone(this),
    });
    gateway.speak(&units);
    let following = async {
        loop {
            let wanted = listed.borrow_and_update().clone();
            units.speak_with(wanted).await;
            if listed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let (following, running) = (stop.run_until_cancelled(following), gateway.run(stop.clone()));
    tokio::join!(following, running);
    units.speak_with(Vec::new()).await;
}

impl<P: Port> Units<P> {
    /// Speaks with these units, and with no other. A unit holds one connection, and two may have changed places: so what
    /// is over is closed before anything begins.
    async fn speak_with(&self, wanted: Vec<Unit>) {
        let ended: Vec<Arc<Spoken>> = {
            let mut spoken_with = self.lock();
            let wanted: HashMap<&str, &Unit> = wanted.iter().map(|unit| (&*unit.uid, unit)).collect();
            let is_over = |uid: &String, spoken: &mut Arc<Spoken>| wanted.get(&**uid) != Some(&&*spoken.unit);
            spoken_with.extract_if(is_over).map(|(_, spoken)| spoken).collect()
        };
        for spoken in &ended {
            spoken.stop.cancel();
            spoken.tasks.close();
        }
        for spoken in ended {
            spoken.tasks.wait().await;
            self.gateway.gone(&spoken.unit.uid, Gone::Clean);
        }
        for unit in wanted {
            if !self.stop.is_cancelled() && !self.lock().contains_key(&unit.uid) {
                self.begin(unit);
            }
        }
    }

    fn begin(&self, unit: Unit) {
        let Some(this) = self.this.upgrade() else { return };
        let spoken = Arc::new(Spoken {
            unit: Arc::new(unit),
            stop: self.stop.child_token(),
            tasks: TaskTracker::new(),
            rests_until: Mutex::default(),
        });
        let (unit, stays) = (Arc::clone(&spoken.unit), Arc::clone(&spoken));
        match unit.kind {
            Kind::Update => spoken.spawn(async move { this.stay(&stays).await }),
            Kind::Read => spoken.spawn(async move { this.read(unit).await }),
        }
        self.lock().insert(spoken.unit.uid.clone(), spoken);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Spoken>>> {
        // What it guards is whole at every moment.
        self.spoken_with.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_here(&self, unit: &Unit) {
        self.gateway.seen(&unit.uid, &unit.address.ip().to_string());
    }

    /// An updatable unit gives no sign of life. It is here as long as it is listed, also when the store could not tell
    /// at first whether it may join, and when its device was retired.
    async fn stay(&self, spoken: &Spoken) {
        loop {
            self.is_here_unless_it_rests(spoken);
            sleep(jittered(STAY_MS)).await;
        }
    }

    /// A unit that is said to be here is tried at once, so that is not said of one that rests.
    fn is_here_unless_it_rests(&self, spoken: &Spoken) {
        if !spoken.rests() {
            self.is_here(&spoken.unit);
        }
    }

    /// Whether a unit rests that is spoken with.
    fn rests(&self, uid: &str) -> bool {
        self.lock().get(uid).is_some_and(|spoken| spoken.rests())
    }

    /// Reads what a unit says, for ever.
    async fn read(&self, unit: Arc<Unit>) {
        let mut pause_ms = PAUSE_MS;
        loop {
            match self.connect(&unit).await {
                Ok(stream) => {
                    let mut has_spoken = false;
                    let ended = self.read_lines(&unit, stream, &mut has_spoken).await;
                    tracing::debug!(address = %unit.address.ip(), ?ended, "connection to a unit ended");
                    if has_spoken {
                        pause_ms = PAUSE_MS;
                        self.gateway.gone(&unit.uid, Gone::Lost);
                    }
                }
                Err(error) => {
                    tracing::debug!(address = %unit.address.ip(), %error, "no connection to a unit")
                }
            }
            sleep(jittered(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
        }
    }

    async fn read_lines(&self, unit: &Unit, stream: TcpStream, has_spoken: &mut bool) -> io::Result<()> {
        // A unit that has lost its power closes nothing.
        let probes = TcpKeepalive::new()
            .with_time(Duration::from_secs(PROBE_AFTER_S))
            .with_interval(Duration::from_secs(PROBE_EVERY_S))
            .with_retries(PROBES_MAX);
        SockRef::from(&stream).set_tcp_keepalive(&probes)?;
        let mut lines = Lines::default();
        loop {
            stream.readable().await?;
            let Some(read) = read_some(&stream, &mut lines)? else { return Ok(()) };
            let mut heard = Vec::new();
            for line in read {
                match line {
                    Ok(line) => {
                        add(&self.counts.lines);
                        *has_spoken = true;
                        // With each line: its device may have been retired meanwhile.
                        self.is_here(unit);
                        heard.push(self.gateway.begin_saying(&unit.uid, &unit.resource, json_of(&line)));
                    }
                    Err(why) => {
                        add(&self.counts.lines_left_out);
                        tracing::warn!(address = %unit.address.ip(), "a line of a unit was left out: {why}");
                    }
                }
            }
            // Nothing more is read until these are stored.
            for heard in heard {
                let _ = heard.await;
            }
        }
    }

    async fn connect(&self, unit: &Unit) -> io::Result<TcpStream> {
        let limit = Duration::from_millis(CONNECT_MS_MAX);
        let connected = timeout(limit, TcpStream::connect(unit.address)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        add(if connected.is_ok() { &self.counts.connected } else { &self.counts.not_connected });
        connected
    }

    /// Sends a line over a connection of its own.
    async fn send(&self, unit: &Unit, line: &str) -> io::Result<()> {
        let mut stream = self.connect(unit).await?;
        let send = async {
            stream.write_all(format!("{line}\r\n").as_bytes()).await?;
            stream.shutdown().await?;
            // It has taken the line when it closes, too; one that does not is not waited for.
            let mut rest = [0; 64];
            while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
            io::Result::Ok(())
        };
        match timeout(Duration::from_millis(SEND_MS_MAX), send).await {
            Ok(sent) => sent,
            // It was written: firmware reads to the end of a line, or until there was silence.
            Err(_) => Ok(()),
        }
    }

    /// Writes to a unit; one that cannot be reached is tried again after a pause.
    async fn write(&self, spoken: &Spoken, number: u64, value: Arc<str>) {
        let unit = &spoken.unit;
        let line = text_of(&value);
        if line.len() > LINE_BYTES_MAX || line.contains(['\r', '\n']) {
            let text = "a value for a unit is one line of at most 1024 bytes".to_owned();
            self.gateway.written(&unit.uid, number, Answer::Refused { status: 400, text });
            return;
        }
        match self.send(unit, &line).await {
            Ok(()) => {
                add(&self.counts.writes);
                self.gateway.written(&unit.uid, number, Answer::Set(Arc::clone(&value)));
            }
            Err(error) => {
                add(&self.counts.writes_failed);
                tracing::warn!(address = %unit.address.ip(), "a unit could not be reached: {error}");
                let until = Instant::now() + jittered(REST_MS);
                spoken.rest_until(until);
                self.gateway.written(&unit.uid, number, Answer::None);
                sleep_until(until).await;
                // Another write may have failed meanwhile: then it rests longer.
                self.is_here_unless_it_rests(spoken);
            }
        }
    }
}

impl<P: Port> Protocol for Units<P> {
    fn discover(&self, uid: &Arc<str>, _: bool) {
        self.gateway.said(uid, "protocol", json_of("TCP"));
        let address = self.lock().get(&**uid).map(|spoken| spoken.unit.address.ip());
        if let Some(address) = address {
            self.gateway.said(uid, "ip", json_of(&address.to_string()));
        }
    }

    fn set(&self, uid: &Arc<str>, number: u64, resource: &str, value: &Arc<str>) {
        let is_it = |unit: &Unit| unit.kind == Kind::Update && unit.resource == resource;
        let spoken = self.lock().get(&**uid).filter(|spoken| is_it(&spoken.unit)).map(Arc::clone);
        let (Some(spoken), Some(this)) = (spoken, self.this.upgrade()) else {
            let text = "the unit has no such resource that can be written".to_owned();
            self.gateway.written(uid, number, Answer::Refused { status: 404, text });
            return;
        };
        let (writes_to, value) = (Arc::clone(&spoken), Arc::clone(value));
        spoken.spawn(async move { this.write(&writes_to, number, value).await });
    }

    fn forget(&self, _: &Arc<str>) {}

    fn close(&self, _: &Arc<str>) {
        // It is asked about anew when it is seen next.
    }

    fn is_passing(&self, _: &Arc<str>) -> bool {
        false
    }
}

/// Reads what there is, in a buffer that nothing holds while a unit is silent; none at its end.
fn read_some(stream: &TcpStream, lines: &mut Lines) -> io::Result<Option<Vec<Line>>> {
    let mut buffer = [0; 512];
    match stream.try_read(&mut buffer) {
        Ok(0) => Ok(None),
        Ok(count) => Ok(Some(lines.take(buffer.get(..count).unwrap_or_default()))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(Vec::new())),
        Err(error) => Err(error),
    }
}

/// A pause that is up to a quarter longer or shorter, so that units are not all tried at once.
fn jittered(ms: u64) -> Duration {
    Duration::from_millis(rand::rng().random_range(ms - ms / 4..=ms + ms / 4))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::broker::remote::{Naming, Remote, RemotePort};
    use crate::gateway::tests::{Diary, Told};
    use crate::node::Write;

    /// What the task of a read unit takes beside its socket, in bytes.
    const READ_TASK_BYTES_MAX: usize = 1_024;

    fn units_of<P: Port>(gateway: Arc<Gateway<P>>) -> Arc<Units<P>> {
        Arc::new_cyclic(|this| Units {
            gateway,
            counts: Arc::default(),
            spoken_with: Mutex::default(),
            stop: CancellationToken::new(),
            this: Weak::clone(this),
        })
    }

    /// One at which nothing listens.
    fn unit(kind: Kind) -> Unit {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        Unit { uid: "u".to_owned(), address, kind, resource: "value".to_owned() }
    }

    #[tokio::test]
    async fn the_task_of_a_read_unit_is_small() {
        let units = units_of(Gateway::new(Arc::new(Remote(RemotePort::new(Naming::AsSaid))), habits()));
        let bytes = size_of_val(&units.read(Arc::new(unit(Kind::Read))));
        assert!(bytes <= READ_TASK_BYTES_MAX, "{bytes} bytes");
    }

    /// A write to a unit that cannot be reached and that somebody says to be here all the time. It is tried three times,
    /// each after a rest.
    async fn demand_rests(port: &Diary, units: &Units<Diary>, say_that_it_is_here: impl Fn()) {
        let each = Duration::from_millis(50);
        let mut tried = Vec::new();
        let told = loop {
            say_that_it_is_here();
            sleep(each).await;
            let count = units.counts.not_connected.load(Ordering::Relaxed);
            tried.resize(usize::try_from(count).unwrap(), Instant::now());
            if let Some(Told::Finished(status)) = port.told().pop() {
                break status;
            }
        };
        let shortest = jittered_min(REST_MS) - each;
        assert_eq!((told, tried.len()), (504, 3));
        assert!(tried.is_sorted_by(|one, next| *next - *one >= shortest), "{tried:?}");
    }

    fn jittered_min(ms: u64) -> Duration {
        Duration::from_millis(ms - ms / 4)
    }

    fn to_write() -> Arc<Diary> {
        let port = Arc::new(Diary::default());
        *port.to_write.lock().unwrap() =
            Some(Write { id: (), values: vec![("value".to_owned(), Arc::from("1"))], until_ms: 1_000_000 });
        port
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_that_could_not_be_reached_rests_before_it_is_tried_again() {
        let port = to_write();
        let units = units_of(Gateway::new(Arc::clone(&port), habits()));
        units.gateway.speak(&units);
        units.begin(unit(Kind::Update));
        let spoken = Arc::clone(&units.lock()["u"]);
        demand_rests(&port, &units, || units.is_here_unless_it_rests(&spoken)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn and_so_does_one_that_announces_itself_all_the_time() {
        let port = to_write();
        let gateway = Gateway::new(Arc::clone(&port), habits());
        let found = found::FoundUnits::new(Arc::clone(&gateway), units_of(Arc::clone(&gateway)));
        gateway.speak(&found);
        demand_rests(&port, &found.approved, || found.hear(vec![unit(Kind::Update)])).await;
    }
}
