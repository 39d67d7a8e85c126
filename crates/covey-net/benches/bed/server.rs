//! The server that is measured: it lets everybody in and does nothing with what they say.
#![allow(dead_code, reason = "not every program ends it in the same way")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use covey_net::mqtt::{
    Admitted, Answer, Claim, ConnectionId, Denied, End, Endpoint, Handled, Hub, KeptSession, Later,
    MqttLimits, Opened, Publisher, Service, serve as serve_mqtt,
};
use covey_net::{Identity, Limits, Refusal, ServerTls, listener};
use covey_pki::{Authority, CertificateLifetimes, ServerNames};
use covey_wire::mqtt::session::{Arrived, Outcome, WillMessage};
use covey_wire::mqtt::{Qos, ReasonCode};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// The server as a process of its own.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
}

impl Process {
    /// Starts it with the CA of a folder, which it makes.
    pub fn start(pki: &Path) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        let mut child = command.arg("serve").arg(pki).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().expect("the server did not start") }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Interrupts it, and waits until it has ended by itself.
    pub fn stop(&mut self) {
        self.interrupt();
        self.wait();
    }

    pub fn wait(&mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    pub fn interrupt(&self) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }
}

/// Serves until it is interrupted; the first line that it prints is its address.
pub async fn serve(pki: &str) {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let now = OffsetDateTime::now_utc();
    let authority = Authority::open_or_create(Path::new(pki), CertificateLifetimes::default(), now).unwrap();
    let issued = authority.issue_service_server(&ServerNames::from_hosts(["localhost"]), now).unwrap();
    let key = issued.private_key_pem.expose().as_bytes();
    let identity = Identity::from_pem(issued.certificate_pem.as_bytes(), key).unwrap();
    let trusted = vec![authority.root_der().clone(), authority.issuing_der().clone()];
    let tls = ServerTls::for_devices(identity, trusted).unwrap();
    let listener = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    println!("{}", listener.local_addr().unwrap());
    let hub = Hub::new(Nobody, MqttLimits::default());
    let endpoint = Endpoint { listener, tls: Some(tls), limits: Limits::default() };
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve_mqtt(hub, vec![endpoint], shutdown.clone()));
    tokio::signal::ctrl_c().await.unwrap();
    shutdown.cancel();
    serving.await.unwrap();
}

struct Nobody;

impl Service for Nobody {
    type Client = ();

    async fn admit(&self, _: Claim<'_>) -> Result<Admitted<()>, Denied> {
        Ok(Admitted { client: Arc::new(()), assigned_client_id: None, session: KeptSession::default() })
    }

    fn connected(&self, _: &Arc<()>, _: Opened<'_>) {}

    fn disconnected(&self, _: &Arc<()>, _: ConnectionId, _: &End) {}

    fn publish(&self, _: Publisher<'_, ()>, _: &Arrived<'_>) -> Handled {
        Handled::Now(Answer::SUCCESS)
    }

    fn will(&self, _: &Arc<()>, _: WillMessage) -> Later<()> {
        Box::pin(std::future::ready(()))
    }

    fn may_subscribe(&self, _: &Arc<()>, _: &str) -> Result<Qos, ReasonCode> {
        Ok(Qos::ExactlyOnce)
    }

    fn subscribed(&self, _: &Arc<()>, _: &str, _: Qos, _: bool) {}

    fn unsubscribed(&self, _: &Arc<()>, _: &str) {}

    fn settled(&self, _: &Arc<()>, _: Outcome) {}

    fn refused(&self, refusal: Refusal) {
        eprintln!("{}: {}", refusal.address, refusal.why);
    }
}
