//! A listener whose protocol sends back what comes, and clients of it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use covey_net::{
    Established, Life, Limits, PeerCertificate, Protocol, Refusal, Refused, ServerTls, listener,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// How long a test waits at most for what must come: on a busy machine that is long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Sends back what comes. A connection has begun with its first byte.
#[derive(Default)]
pub struct Echo {
    pub refused: Mutex<Vec<Refusal>>,
    pub certificates: Mutex<Vec<Option<PeerCertificate>>>,
    pub shutdown: CancellationToken,
    /// Lives that do not end by themselves.
    pub is_stubborn: bool,
}

impl Protocol for Echo {
    async fn begin(&self, established: Established) -> Result<Option<Life>, Refused> {
        let Established { mut transport, early: mut said, certificate, .. } = established;
        self.certificates.lock().unwrap().push(certificate);
        while said.is_empty() {
            poll_fn(|context| transport.poll_read(context, &mut said))
                .await
                .map_err(|ended| Refused::Left(ended.to_string()))?;
        }
        let (shutdown, is_stubborn) = (self.shutdown.clone(), self.is_stubborn);
        let life: Life = Box::pin(async move {
            loop {
                if transport.send(&said).is_err() {
                    return;
                }
                said.clear();
                let next = async {
                    poll_fn(|context| transport.poll_flush(context)).await?;
                    poll_fn(|context| transport.poll_read(context, &mut said)).await
                };
                tokio::select! {
                    ended = next => if ended.is_err() { break },
                    () = shutdown.cancelled(), if !is_stubborn => break,
                }
            }
            transport.finish().await;
        });
        Ok(Some(life))
    }

    fn refused(&self, refusal: Refusal) {
        self.refused.lock().unwrap().push(refusal);
    }

    fn shutdown(&self) {
        self.shutdown.cancel();
    }
}

pub struct Server {
    pub echo: Arc<Echo>,
    pub address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    pub fn start(tls: Option<Arc<ServerTls>>, limits: Limits) -> Self {
        Self::start_with(tls, limits, Echo::default())
    }

    pub fn start_with(tls: Option<Arc<ServerTls>>, limits: Limits, echo: Echo) -> Self {
        let listener = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, shutdown, echo) =
            (listener.local_addr().unwrap(), CancellationToken::new(), Arc::new(echo));
        let serving =
            tokio::spawn(listener::serve(listener, tls, limits, Arc::clone(&echo), shutdown.clone()));
        Self { echo, address, shutdown, serving }
    }

    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A client that has done its part of the handshake; of TLS 1.3 the server may still refuse it.
    pub async fn connect(&self, config: &ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_by(&TlsConnector::from(Arc::new(config.clone()))).await
    }

    pub async fn connect_by(&self, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        connector.connect(ServerName::try_from("localhost").unwrap(), self.tcp().await).await
    }

    /// Waits until a connection has been refused for something; answers the first such.
    pub async fn until_refused(&self, why: impl Fn(&Refused) -> bool) -> Refusal {
        let found = async {
            loop {
                let told = self.echo.refused.lock().unwrap().clone();
                if let Some(refusal) = told.into_iter().find(|refusal| why(&refusal.why)) {
                    return refusal;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, found).await.expect("no such refusal")
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.serving).await.expect("the listener does not stop").unwrap();
    }
}
