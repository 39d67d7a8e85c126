//! A gateway on a socket of its own, whose owner answers what tests ask, and asks what they want.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use covey_gateway::coap::driver::{Coap, Counts, Owner, serve};
use covey_gateway::coap::exchange::{
    Address, Asked, Event, Exchange, Failure, Receipt, Request, RequestId, Response, Terms,
};
use covey_gateway::coap::link_format::{Link, print};
use covey_gateway::coap::message::Code;
use covey_gateway::coap::socket::CoapSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::network::body;

pub enum Command {
    Ask(SocketAddr, Request, oneshot::Sender<Result<Response, Failure>>),
    Observe(SocketAddr, Request, mpsc::UnboundedSender<Response>),
    Ping(SocketAddr, oneshot::Sender<bool>),
    Respond(Receipt, Response),
}

struct TestOwner {
    commands: mpsc::Sender<Command>,
    asked: Arc<Mutex<Vec<(Address, String, bool)>>>,
    stored: Vec<u8>,
    asking: HashMap<RequestId, oneshot::Sender<Result<Response, Failure>>>,
    observing: HashMap<RequestId, mpsc::UnboundedSender<Response>>,
    pinging: HashMap<RequestId, oneshot::Sender<bool>>,
}

/// The gateway; it stops when this is dropped.
pub struct Bed {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
    /// Who asked for what, and whether it was confirmable.
    pub asked: Arc<Mutex<Vec<(Address, String, bool)>>>,
    commands: mpsc::Sender<Command>,
    _stop: DropGuard,
}

impl Bed {
    pub fn start(address: &str) -> Self {
        let socket = CoapSocket::bind(address.parse().unwrap(), None).unwrap();
        let address = socket.local_addr().unwrap();
        let (commands, incoming) = mpsc::channel(100);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let owner = TestOwner {
            commands: commands.clone(),
            asked: Arc::clone(&asked),
            stored: Vec::new(),
            asking: HashMap::new(),
            observing: HashMap::new(),
            pinging: HashMap::new(),
        };
        let (counts, shutdown) = (Arc::new(Counts::default()), CancellationToken::new());
        let exchange = Exchange::new(Terms::default(), rand::random());
        tokio::spawn(serve(socket, exchange, owner, incoming, Arc::clone(&counts), shutdown.clone()));
        Self { address, counts, asked, commands, _stop: shutdown.drop_guard() }
    }

    /// Where others reach it: on loopback.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub async fn ask(&self, to: SocketAddr, request: Request) -> Result<Response, Failure> {
        let (tell, told) = oneshot::channel();
        assert!(self.commands.send(Command::Ask(to, request, tell)).await.is_ok());
        told.await.unwrap()
    }

    pub async fn observe(&self, to: SocketAddr, path: &str) -> mpsc::UnboundedReceiver<Response> {
        let (tell, told) = mpsc::unbounded_channel();
        let request = Request { observe: true, ..Request::get(path) };
        assert!(self.commands.send(Command::Observe(to, request, tell)).await.is_ok());
        told
    }

    pub async fn ping(&self, to: SocketAddr) -> bool {
        let (tell, told) = oneshot::channel();
        assert!(self.commands.send(Command::Ping(to, tell)).await.is_ok());
        told.await.unwrap()
    }

    pub fn count(&self, count: impl Fn(&Counts) -> &std::sync::atomic::AtomicU64) -> u64 {
        count(&self.counts).load(Ordering::Relaxed)
    }

    pub fn asked_paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(_, path, _)| path.clone()).collect()
    }
}

impl TestOwner {
    fn answer(&mut self, asked: &Asked) -> Response {
        match (asked.method, asked.path.as_str()) {
            (Code::GET, ".well-known/core") => {
                let links = [
                    Link::new("/alive"),
                    Link::new("/server"),
                    Link::new("/large").with("sz", Some("20480")),
                ];
                Response { content_format: Some(40), ..Response::text(Code::CONTENT, print(&links)) }
            }
            (Code::POST, "alive") => Response::new(Code::CHANGED),
            (Code::POST, "server") => {
                let text = format!("Received '{}'", String::from_utf8_lossy(&asked.payload));
                Response::text(Code::CHANGED, text)
            }
            (Code::GET, "large") => {
                Response { content_format: Some(42), ..Response::text(Code::CONTENT, body(20_480)) }
            }
            (Code::PUT, "store") => {
                self.stored.clone_from(&asked.payload);
                Response::new(Code::CHANGED)
            }
            (Code::GET, "store") => {
                Response { content_format: Some(42), ..Response::text(Code::CONTENT, self.stored.clone()) }
            }
            (Code::GET, "slow") => Response::text(Code::CONTENT, "slow"),
            (_, "alive" | "server" | "large" | "store") => Response::text(Code::METHOD_NOT_ALLOWED, "not so"),
            _ => Response::text(Code::NOT_FOUND, "nothing is here"),
        }
    }
}

impl Owner for TestOwner {
    type Command = Command;

    fn is_proven(&self, _address: Address) -> bool {
        true
    }

    fn happened(&mut self, event: Event, coap: &mut Coap<'_>) {
        match event {
            Event::Asked(asked) => {
                self.asked.lock().unwrap().push((asked.from, asked.path.clone(), asked.is_confirmable));
                let response = self.answer(&asked);
                if asked.path == "slow" {
                    let commands = self.commands.clone();
                    tokio::spawn(async move {
                        sleep(Duration::from_millis(1_500)).await;
                        _ = commands.send(Command::Respond(asked.receipt, response)).await;
                    });
                } else {
                    assert!(coap.respond(asked.receipt, response));
                }
            }
            Event::Answered { request, response, .. } => {
                if let Some(tell) = self.asking.remove(&request) {
                    _ = tell.send(Ok(response));
                } else if let Some(tell) = self.observing.get(&request) {
                    _ = tell.send(response);
                }
            }
            Event::Failed { request, why } => {
                if let Some(tell) = self.asking.remove(&request) {
                    _ = tell.send(Err(why));
                } else if let Some(tell) = self.pinging.remove(&request) {
                    _ = tell.send(false);
                }
            }
            Event::Reached { request } => {
                if let Some(tell) = self.pinging.remove(&request) {
                    _ = tell.send(true);
                }
            }
            Event::Notified { observation, response } => {
                if let Some(tell) = self.observing.get(&observation) {
                    _ = tell.send(response);
                }
            }
            Event::Unobserved { observation, .. } => _ = self.observing.remove(&observation),
        }
    }

    fn told(&mut self, command: Command, coap: &mut Coap<'_>) {
        match command {
            Command::Ask(to, request, tell) => {
                self.asking.insert(coap.request(Address::of(to), to.port(), true, request).unwrap(), tell);
            }
            Command::Observe(to, request, tell) => {
                self.observing.insert(coap.request(Address::of(to), to.port(), true, request).unwrap(), tell);
            }
            Command::Ping(to, tell) => {
                _ = self.pinging.insert(coap.ping(Address::of(to), to.port()).unwrap(), tell)
            }
            Command::Respond(receipt, response) => assert!(coap.respond(receipt, response)),
        }
    }
}
