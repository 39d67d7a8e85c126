//! A microcontroller behind a small HTTPS API (`docs/mcu-http.md`): it registers itself, connects over mutual TLS with what
//! it was given, and answers the six calls over MQTT 3.1.1, QoS 0.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use covey_client::Client;
use covey_device::Identity;
use covey_wire::mqtt::{Delivery, Packet, Qos};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::{Instant, interval_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::mqtt::{Connection, Heard};
use super::{ALIVE, DevicesPort, NodeOptions, Shared};
use crate::error::Result;

/// How many pins a microcontroller keeps values of; others stay 0.
const PINS_MAX: usize = 1_024;

/// What registers microcontrollers, one after the other: the server makes one key at a time.
pub(super) struct Registry {
    client: Client,
    devices: DevicesPort,
    turn: tokio::sync::Mutex<()>,
}

impl Registry {
    /// That of a simulation of microcontrollers.
    pub(super) fn of(options: &NodeOptions) -> Result<Option<Self>> {
        let Some(devices) = options.devices.clone() else { return Ok(None) };
        let (url, key) = (format!("https://{}", options.gateway), devices.key.as_deref().unwrap_or_default());
        let client = Client::new(&url, key, devices.ca_pem.as_deref())?;
        Ok(Some(Self { client, devices, turn: tokio::sync::Mutex::default() }))
    }

    async fn register(&self, name: &str) -> Result<Arc<ClientConfig>> {
        let _turn = self.turn.lock().await;
        let keys = self.client.microcontroller_register(name).await?;
        let identity = Identity::from_pem(keys.ca.as_bytes(), keys.cert.as_bytes(), keys.pkey.as_bytes())?;
        Ok(Arc::new(identity.client_config(None)?))
    }
}

/// A microcontroller.
pub(super) struct Microcontroller {
    name: String,
    /// What its topics begin with.
    topics: String,
    /// Whether the number of a pin is a part of its topics.
    is_numbered: bool,
    tls: OnceCell<Arc<ClientConfig>>,
    memory: Mutex<Memory>,
}

/// What it keeps.
#[derive(Default)]
struct Memory {
    pins: HashMap<u32, i64>,
    /// What its clock is ahead of this machine's, in seconds.
    ahead_s: i64,
}

/// What a call is answered.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// Where, below the name.
    topic: String,
    body: Value,
    then: Then,
}

/// What comes after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Nothing: it was asked for a value.
    Said,
    /// Nothing: a value was written.
    Written,
    /// A new connection, as after a restart.
    Restart,
}

impl Microcontroller {
    /// With a prefix its topics begin with that, and have no number of a pin.
    pub(super) fn new(name: String, topic_prefix: Option<&str>) -> Self {
        let topics = topic_prefix.map_or_else(|| format!("{name}/"), |prefix| format!("{prefix}/{name}/"));
        Self {
            name,
            topics,
            is_numbered: topic_prefix.is_none(),
            tls: OnceCell::new(),
            memory: Mutex::default(),
        }
    }

    /// Registers it, unless that was done.
    pub(super) async fn register(&self, shared: &Shared) -> Result<()> {
        let Some(registry) = &shared.registry else { return Ok(()) };
        self.tls.get_or_try_init(|| registry.register(&self.name)).await.map(drop)
    }

    async fn connect(&self, shared: &Shared) -> io::Result<Connection<TlsStream<TcpStream>>> {
        self.register(shared).await.map_err(io::Error::other)?;
        let (Some(registry), Some(tls)) = (&shared.registry, self.tls.get()) else {
            return Err(io::Error::other("there is nothing to register at"));
        };
        let DevicesPort { host, port, .. } = &registry.devices;
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        stream.set_nodelay(true)?;
        let host = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(host, stream).await?;
        Connection::open(stream, &self.name).await
    }

    /// What it answers to a call, at this time in Unix seconds; nothing to what it does not understand.
    fn answer(&self, call: &str, parameters: &Value, now_s: i64) -> Option<Answer> {
        // What it guards is whole at every moment.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let number = parameters["number"].as_u64().and_then(|number| u32::try_from(number).ok());
        let value = parameters["value"].as_i64();
        let (body, then) = match call {
            "get_gpio" => (json!({ "value": memory.pin(number?) }), Then::Said),
            "set_gpio" => (json!({ "value": memory.set_pin(number?, value?) }), Then::Written),
            "get_rtc" => (json!({ "value": now_s.wrapping_add(memory.ahead_s) }), Then::Said),
            "set_rtc" => {
                memory.ahead_s = value?.wrapping_sub(now_s);
                (json!({ "value": value? }), Then::Written)
            }
            "get_status" => (json!({ "status": "running" }), Then::Said),
            "set_status" => {
                let status = parameters["status"].as_str()?;
                let then = if status == "restart" { Then::Restart } else { Then::Written };
                (json!({ "status": status }), then)
            }
            _ => return None,
        };
        let topic = match number {
            Some(number) if self.is_numbered && call.ends_with("_gpio") => format!("{call}/{number}"),
            _ => call.to_owned(),
        };
        Some(Answer { topic, body, then })
    }
}

impl Memory {
    fn pin(&self, number: u32) -> i64 {
        self.pins.get(&number).copied().unwrap_or_default()
    }

    /// Sets a pin, if there is room for it; answers what it is now.
    fn set_pin(&mut self, number: u32, value: i64) -> i64 {
        if self.pins.contains_key(&number) || self.pins.len() < PINS_MAX {
            self.pins.insert(number, value);
        }
        self.pin(number)
    }
}

/// Lives until `stop`, or until a connection ends that it has not ended itself.
pub(super) async fn run(
    shared: &Shared,
    device: &Microcontroller,
    stop: &CancellationToken,
) -> io::Result<()> {
    while let Some(connection) = stop.run_until_cancelled(device.connect(shared)).await {
        if serve(shared, device, connection?, stop).await? != Then::Restart {
            break;
        }
    }
    Ok(())
}

/// Answers calls until `stop`, or until one asks for a restart.
async fn serve(
    shared: &Shared,
    device: &Microcontroller,
    mut connection: Connection<TlsStream<TcpStream>>,
    stop: &CancellationToken,
) -> io::Result<Then> {
    let own = &device.topics;
    let mut counted = None;
    let mut alive = interval_at(Instant::now() + ALIVE, ALIVE);
    loop {
        tokio::select! {
            () = stop.cancelled() => return connection.close().await.map(|()| Then::Said),
            _ = alive.tick() => connection.push(&Packet::PingReq)?,
            heard = connection.hear() => match heard? {
                Heard::Connected => connection.subscribe(&[&format!("{own}#")], Qos::AtMostOnce)?,
                Heard::Subscribed => counted = Some(shared.connected()),
                Heard::Message { topic, payload } => {
                    let parameters = serde_json::from_slice(&payload).unwrap_or_default();
                    let call = topic.strip_prefix(own).unwrap_or_default();
                    let Some(answer) = device.answer(call, &parameters, now_s()) else { continue };
                    let topic = format!("server/{own}{}", answer.topic);
                    connection.publish_as(Delivery::AtMostOnce, &topic, &answer.body.to_string())?;
                    match answer.then {
                        Then::Said => shared.tally.said(1),
                        Then::Written | Then::Restart => {
                            shared.tally.writes.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    if answer.then == Then::Restart {
                        drop(counted);
                        return connection.close().await.map(|()| Then::Restart);
                    }
                }
                Heard::Nothing => {}
            },
        }
        connection.flush().await?;
    }
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_700_000_000;

    fn told(device: &Microcontroller, call: &str, parameters: Value) -> Option<(String, Value, Then)> {
        let answer = device.answer(call, &parameters, NOW_S)?;
        Some((answer.topic, answer.body, answer.then))
    }

    #[test]
    fn the_six_calls_are_answered_on_their_topics() {
        let device = Microcontroller::new("a".to_owned(), None);
        let is = |call: &str, parameters, topic: &str, body, then| {
            assert_eq!(told(&device, call, parameters), Some((topic.to_owned(), body, then)), "{call}");
        };
        is("get_gpio", json!({"number": 12}), "get_gpio/12", json!({"value": 0}), Then::Said);
        let (set, value) = (json!({"number": 12, "value": -3, "more": 1}), json!({"value": -3}));
        is("set_gpio", set, "set_gpio/12", value.clone(), Then::Written);
        is("get_gpio", json!({"number": 12}), "get_gpio/12", value, Then::Said);
        is("get_gpio", json!({"number": u32::MAX}), "get_gpio/4294967295", json!({"value": 0}), Then::Said);
        is("get_rtc", json!({}), "get_rtc", json!({"value": NOW_S}), Then::Said);
        for at in [5, i64::MIN, i64::MAX] {
            is("set_rtc", json!({"value": at}), "set_rtc", json!({"value": at}), Then::Written);
            is("get_rtc", json!({}), "get_rtc", json!({"value": at}), Then::Said);
        }
        is("get_status", json!({}), "get_status", json!({"status": "running"}), Then::Said);
        for (status, then) in [("off", Then::Written), ("restart", Then::Restart)] {
            is("set_status", json!({"status": status}), "set_status", json!({"status": status}), then);
        }
    }

    #[test]
    fn below_a_prefix_topics_have_no_number_of_a_pin() {
        let device = Microcontroller::new("a".to_owned(), Some("acme"));
        assert_eq!(device.topics, "acme/a/");
        let told = told(&device, "get_gpio", json!({"number": 12}));
        assert_eq!(told, Some(("get_gpio".to_owned(), json!({"value": 0}), Then::Said)));
    }

    #[test]
    fn what_is_not_understood_is_not_answered() {
        let device = Microcontroller::new("a".to_owned(), None);
        for (call, parameters) in [
            ("", json!({})),
            ("blink", json!({})),
            ("get_gpio", json!({})),
            ("get_gpio", json!({"number": -1})),
            ("set_gpio", json!({"number": 1, "value": "1"})),
            ("set_rtc", Value::Null),
            ("set_status", json!([])),
        ] {
            assert_eq!(told(&device, call, parameters), None, "{call}");
        }
    }

    #[test]
    fn pins_beyond_the_bound_stay_0_and_the_others_can_still_be_set() {
        let mut memory = Memory::default();
        for number in 0..=1_024 {
            memory.set_pin(number, 1);
        }
        assert_eq!((memory.pins.len(), memory.pin(1_023), memory.pin(1_024)), (PINS_MAX, 1, 0));
        assert_eq!((memory.set_pin(7, 2), memory.set_pin(9_999, 2)), (2, 0));
    }
}
