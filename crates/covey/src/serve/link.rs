//! The link to devices that the settings name.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use covey_core::Engine;
use covey_core::port::{Clock, Link, LinkStatus, Observer};
use covey_link::ResponseForm;
use covey_link::amqp::{self, AmqpLink};
use covey_link::embedded::{Broker, BrokerOptions, EmbeddedLink, ImportedCa, TlsFiles};
use covey_link::mqtt::{self, MqttLink};
use covey_pki::{Authority, ServerCertificate};
use time::OffsetDateTime;

use crate::fault;
use crate::serve::data_dir::DataDir;
use crate::serve::files::OpenFiles;
use crate::settings::{EMBEDDED, RspBody, Settings};

/// The name under which a server presents itself to a broker. No device can
/// have it: serial numbers have no dot.
const SERVER_IDENTITY: &str = "covey.server";

/// How long a start waits for the first answer of a broker, and how often it looks.
const FIRST_OUTCOME_TIMEOUT: Duration = Duration::from_secs(2);
const FIRST_OUTCOME_PAUSE: Duration = Duration::from_millis(5);

/// A link that is made and not started.
pub enum DeviceLink {
    Embedded(Arc<EmbeddedLink>),
    Amqp(Arc<AmqpLink>),
    Mqtt(Arc<MqttLink>),
}

/// A link that runs.
pub enum RunningLink {
    Embedded(Broker),
    Amqp(amqp::Running),
    Mqtt(mqtt::Running),
}

impl DeviceLink {
    /// Makes the link.
    pub fn make(
        settings: &Settings,
        data: &DataDir,
        authority: &Authority,
        clock: &Arc<dyn Clock>,
        observer: &Arc<dyn Observer>,
    ) -> Result<Self> {
        let (clock, observer) = (Arc::clone(clock), Arc::clone(observer));
        let server = &settings.server_name;
        let url = settings.link.exposed();
        Ok(match settings.link.scheme() {
            EMBEDDED => Self::Embedded(EmbeddedLink::new(server, clock, observer)),
            scheme @ ("amqp" | "amqps") => {
                let tls = (scheme == "amqps").then(|| tls_files(settings, data, authority)).transpose()?;
                let management = settings.rabbitmq_management.as_ref().map(|url| url.exposed());
                let mut options = amqp::Options::new(url, management, tls, server).map_err(fault::setup)?;
                options.response_form = response_form(settings);
                Self::Amqp(AmqpLink::new(options, clock, observer).map_err(fault::setup)?)
            }
            scheme => {
                let tls = (scheme == "mqtts").then(|| tls_files(settings, data, authority)).transpose()?;
                let mut options = mqtt::Options::new(url, tls, server).map_err(fault::setup)?;
                options.response_form = response_form(settings);
                Self::Mqtt(MqttLink::new(options, clock, observer).map_err(fault::setup)?)
            }
        })
    }

    /// The link as the core sees it.
    pub fn port(&self) -> Arc<dyn Link> {
        match self {
            Self::Embedded(link) => Arc::clone(link) as _,
            Self::Amqp(link) => Arc::clone(link) as _,
            Self::Mqtt(link) => Arc::clone(link) as _,
        }
    }

    /// The link to microcontrollers beside it, where the settings switch that on.
    pub fn microcontrollers(&self, settings: &Settings) -> Option<Arc<dyn Link>> {
        match self {
            Self::Embedded(link) if settings.mcu_http.is_some() => {
                Some(link.taking_microcontrollers(settings.mcu_topic_prefix.as_deref()) as _)
            }
            _ => None,
        }
    }

    /// Starts it.
    pub async fn start(
        self,
        engine: &Arc<Engine>,
        settings: &Settings,
        files: Option<&OpenFiles>,
        certificate: &ServerCertificate,
        authority: &Authority,
    ) -> Result<RunningLink> {
        let engine = Arc::clone(engine);
        Ok(match self {
            Self::Embedded(link) => {
                let mut options = broker_options(settings, certificate, authority);
                options.files = files.map(|files| files.devices.clone());
                let broker = Broker::start(link, engine, options).await.map_err(|error| {
                    fault::setup(format!("{error}; stop what uses the port, or give another with --mqtts"))
                })?;
                RunningLink::Embedded(broker)
            }
            Self::Amqp(link) => {
                RunningLink::Amqp(amqp::Running::start(link, engine).await.map_err(fault::setup)?)
            }
            Self::Mqtt(link) => {
                RunningLink::Mqtt(mqtt::Running::start(link, engine).await.map_err(fault::setup)?)
            }
        })
    }
}

impl RunningLink {
    /// The address at which the server itself listens to devices.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Embedded(broker) => Some(broker.address()),
            Self::Amqp(_) | Self::Mqtt(_) => None,
        }
    }

    /// Where devices connect, unless the settings say it.
    pub fn devices_url(&self, settings: &Settings) -> String {
        match self {
            Self::Embedded(broker) => format!("mqtts://{}", super::reachable(broker.address())),
            // The usual port of MQTT over TLS, on the host of the broker.
            Self::Amqp(_) => {
                let host_and_port = settings.link.host_and_port();
                let first = host_and_port.split(',').next().unwrap_or_default();
                let host = first.rsplit_once(':').map_or(first, |(host, _)| host);
                format!("mqtts://{host}:8883")
            }
            Self::Mqtt(_) => format!("mqtts://{}", settings.link.host_and_port()),
        }
    }

    /// Where the broker in this process listens, if there is one.
    pub fn listener(&self) -> Option<SocketAddr> {
        match self {
            Self::Embedded(broker) => Some(broker.address()),
            Self::Amqp(_) | Self::Mqtt(_) => None,
        }
    }

    /// Accepts devices with the certificate that the files hold now.
    pub fn renew(&mut self) -> Result<(), String> {
        match self {
            Self::Embedded(broker) => broker.renew().map_err(|error| error.to_string()),
            Self::Amqp(_) | Self::Mqtt(_) => Ok(()),
        }
    }

    /// Ends it, when what is under way has ended.
    pub async fn stop(self) {
        match self {
            Self::Embedded(broker) => broker.stop().await,
            Self::Amqp(running) => running.stop().await,
            Self::Mqtt(running) => running.stop().await,
        }
    }
}

/// Waits until a link that was started is up or has failed once; what keeps it from being
/// up. A broker that says nothing at all is not waited for any longer.
pub async fn first_outcome(link: &dyn Link) -> Option<String> {
    let until = Instant::now() + FIRST_OUTCOME_TIMEOUT;
    while Instant::now() < until {
        if link.state().status == LinkStatus::Up {
            return None;
        }
        if let Some(problem) = link.problem() {
            return Some(problem);
        }
        tokio::time::sleep(FIRST_OUTCOME_PAUSE).await;
    }
    Some("no answer so far".to_owned())
}

fn broker_options(
    settings: &Settings,
    certificate: &ServerCertificate,
    authority: &Authority,
) -> BrokerOptions {
    BrokerOptions {
        address: settings.mqtts,
        tls: TlsFiles {
            certificate: certificate.certificate_path().to_owned(),
            key: certificate.key_path().to_owned(),
            device_root: authority.root_path(),
            device_issuer: authority.issuing_path(),
            former_issuers: authority.former_path(),
            imported: authority.imported().iter().map(imported).collect(),
        },
        sessions_max: settings.sessions_max as usize,
        files: None,
        packet_bytes_max: settings.packet_bytes_max,
        held_bytes_max: usize::try_from(settings.sessions_bytes_max.0).unwrap_or(usize::MAX),
        response_form: response_form(settings),
    }
}

/// A CA of others, as the listener for devices tells it from our own.
fn imported(ca: &covey_pki::ImportedCa) -> ImportedCa {
    let prefix = covey_pki::imported_serial(&ca.id, "");
    ImportedCa { prefix: prefix.into(), certificate: ca.der().clone() }
}

fn response_form(settings: &Settings) -> ResponseForm {
    match settings.rsp {
        RspBody::Payload => ResponseForm::Payload,
        RspBody::Envelope => ResponseForm::Envelope,
    }
}

/// The files with which this server speaks to a broker: those that are given,
/// else a client certificate of its own from the deployment's CA.
fn tls_files(settings: &Settings, data: &DataDir, authority: &Authority) -> Result<covey_link::TlsFiles> {
    let ca = settings.link_ca.clone().unwrap_or_else(|| authority.root_path());
    if let (Some(certificate), Some(key)) = (&settings.link_certificate, &settings.link_key) {
        return Ok(covey_link::TlsFiles { ca, certificate: certificate.clone(), key: key.clone() });
    }
    let issued =
        authority.issue_service_client(SERVER_IDENTITY, OffsetDateTime::now_utc()).map_err(fault::setup)?;
    let certificate = data.pki_path().join("link.pem");
    let key = data.pki_path().join("link.key");
    write(&key, issued.private_key_pem.expose(), 0o600)?;
    write(&certificate, &issued.certificate_pem, 0o644)?;
    Ok(covey_link::TlsFiles { ca, certificate, key })
}

fn write(path: &PathBuf, text: &str, mode: u32) -> Result<()> {
    let written = (|| {
        let unfinished = path.with_extension("unfinished");
        let mut file =
            fs::OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    })();
    written.map_err(|error| fault::setup(format!("cannot write {}: {error}", path.display())))
}
