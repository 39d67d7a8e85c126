//! The settings of a server: from the command line, else from the environment,
//! else from the configuration file, else the defaults.

mod bytes;
mod nodes;
mod people;
mod tokens;
mod url;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use covey_core::budget::Budgets;
use covey_core::device::DeviceRegister;
use covey_core::id::Sn;
use covey_core::retention::{AUDIT_DAYS_MIN, DAYS_MAX, RetentionClass, RetentionDays};
use covey_core::webhook::address::AddressRule;
use covey_http::AllowedOrigins;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fault;
use crate::logging::LogFormat;
pub use crate::settings::bytes::Bytes;
pub use crate::settings::nodes::{Admission, NodeKeys, OutAfter};
pub use crate::settings::people::OidcProvider;
pub use crate::settings::tokens::{OrgName, TokenIssuer};
pub use crate::settings::url::ServiceUrl;

/// Every setting, each of which may be missing.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Folder for the database, the keys and everything else that must be kept
    /// [default: ./covey-data]
    #[arg(long, env = "COVEY_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address for plain HTTP, on loopback only [default: 127.0.0.1:8080]
    #[arg(long, env = "COVEY_HTTP", value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Address for HTTPS [default: 0.0.0.0:8443]
    #[arg(long, env = "COVEY_HTTPS", value_name = "ADDR")]
    pub https: Option<SocketAddr>,
    /// Address for devices: MQTT over mutual TLS [default: 0.0.0.0:8883]
    #[arg(long, env = "COVEY_MQTTS", value_name = "ADDR")]
    pub mqtts: Option<SocketAddr>,
    /// Address for /metrics, /healthz and /readyz alone, over plain HTTP without a
    /// key, such as 10.0.0.5:9464 for Prometheus [default: none; --http has them on
    /// this machine, --https asks for a key with the right metrics:read]
    #[arg(long, env = "COVEY_METRICS", value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Announces this server on the local network over multicast DNS, so that covey --discover finds it; offers TCP units
    /// that announce themselves for approval (docs/discovery.md). What listens on loopback is not announced
    #[arg(
        long,
        env = "COVEY_MDNS",
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub mdns: Option<bool>,
    /// Who may join of nodes, which have no certificate: open (whoever comes), known (those that are listed:
    /// covey node add), approve (a newcomer waits until covey node approve) [default: open where their
    /// listeners are on loopback, else approve]
    #[arg(long, env = "COVEY_NODES", value_name = "MODE", help_heading = "Nodes")]
    pub nodes: Option<Admission>,
    /// Insists on --nodes open where nodes of other machines reach a listener
    #[arg(
        long,
        env = "COVEY_NODES_INSIST",
        value_name = "true|false",
        num_args = 0..=1,
        default_missing_value = "true",
        help_heading = "Nodes"
    )]
    pub nodes_insist: Option<bool>,
    /// The organisation that nodes belong to [default: 1]
    #[arg(long, env = "COVEY_NODES_ORG", value_name = "ID", help_heading = "Nodes")]
    pub nodes_org: Option<i64>,
    /// After how many seconds of silence a node is out: a number for all, or one for each gateway, such as
    /// mqtt=300,coap=60 [default: 120]
    #[arg(long, env = "COVEY_NODES_OUT_AFTER", value_name = "SECONDS", help_heading = "Nodes")]
    pub nodes_out_after: Option<OutAfter>,
    /// Address for nodes that speak CoAP, such as 0.0.0.0:5683; the unspecified one of IPv6 takes IPv4 too
    /// [default: none]
    #[arg(long, env = "COVEY_COAP", value_name = "ADDR", help_heading = "Nodes")]
    pub coap: Option<SocketAddr>,
    /// Network interface over which CoAP nodes with link-local addresses are reached, such as eth0
    /// [default: that which the system chooses]
    #[arg(long, env = "COVEY_COAP_INTERFACE", value_name = "NAME", help_heading = "Nodes")]
    pub coap_interface: Option<String>,
    /// Address for nodes that speak CoAP over DTLS, such as 0.0.0.0:5684, with --coap-psk: whoever has a key is let in,
    /// and --nodes says who joins [default: none]
    #[arg(long, env = "COVEY_COAPS", value_name = "ADDR", help_heading = "Nodes")]
    pub coaps: Option<SocketAddr>,
    /// Pre-shared keys of CoAP nodes over DTLS: a line IDENTITY:KEY or IDENTITY:KEY:UID,UID for each, the key in
    /// hexadecimal digits, as psktool writes it; mode 0600 [default: none]
    #[arg(long, env = "COVEY_COAP_PSK", value_name = "FILE", help_heading = "Nodes")]
    pub coap_psk: Option<PathBuf>,
    /// Address for nodes that speak plain MQTT, such as 127.0.0.1:1886 [default: none]
    #[arg(long, env = "COVEY_MQTT_NODES", value_name = "ADDR", help_heading = "Nodes")]
    pub mqtt_nodes: Option<SocketAddr>,
    /// Password file of MQTT nodes, as mosquitto_passwd writes it: who has none of its passwords may not connect
    /// [default: none: whoever reaches the listener]
    #[arg(long, env = "COVEY_MQTT_NODES_PASSWORD_FILE", value_name = "FILE", help_heading = "Nodes")]
    pub mqtt_nodes_password_file: Option<PathBuf>,
    /// TLS for MQTT nodes, with the certificate of this server
    #[arg(
        long,
        env = "COVEY_MQTT_NODES_TLS",
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Nodes"
    )]
    pub mqtt_nodes_tls: Option<bool>,
    /// CA certificates (PEM) whose certificates MQTT nodes may show in place of a password, with --mqtt-nodes-tls; who has
    /// neither may not connect [default: none]
    #[arg(long, env = "COVEY_MQTT_NODES_CLIENT_CA", value_name = "FILE", help_heading = "Nodes")]
    pub mqtt_nodes_client_ca: Option<PathBuf>,
    /// Address for nodes that speak MQTT-SN 1.2 over UDP, such as 127.0.0.1:1885 [default: none]
    #[arg(long, env = "COVEY_MQTT_SN", value_name = "ADDR", help_heading = "Nodes")]
    pub mqtt_sn: Option<SocketAddr>,
    /// Address for nodes that speak WebSocket, such as 127.0.0.1:8001 [default: none]
    #[arg(long, env = "COVEY_WEBSOCKET_NODES", value_name = "ADDR", help_heading = "Nodes")]
    pub websocket_nodes: Option<SocketAddr>,
    /// Speaks with the TCP units that are listed over REST (covey unit add)
    #[arg(
        long,
        env = "COVEY_UNIT_GATEWAY",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "true|false",
        help_heading = "Nodes"
    )]
    pub unit_gateway: Option<bool>,
    /// A list of TCP units, as JSON (docs/units.md), or the config.json of a base unit; speaks with those that are
    /// listed over REST, too [default: none]
    #[arg(long, env = "COVEY_UNITS", value_name = "FILE", help_heading = "Nodes")]
    pub units: Option<PathBuf>,
    /// Addresses at which units may be: ranges such as 10.1.0.0/16, and the words private, loopback, all
    /// [default: private]
    #[arg(
        long,
        env = "COVEY_UNITS_ALLOW",
        value_name = "RANGE",
        value_delimiter = ',',
        help_heading = "Nodes"
    )]
    pub units_allow: Option<Vec<String>>,
    /// Apps that clients and libraries of Pusher Channels use on the HTTP and HTTPS listeners, and dashboards at whose
    /// Pusher service the server takes a base unit's place: a JSON file of mode 0600 (docs/pusher.md), or the config.json of
    /// a base unit. Webhooks of channels and dashboards are where --webhook-allow has it [default: none]
    #[arg(long, env = "COVEY_PUSHER", value_name = "FILE", help_heading = "Nodes")]
    pub pusher: Option<PathBuf>,
    /// Origins whose pages may connect as WebSocket nodes and to the node broker, such as
    /// https://dashboard.example, beside those of this host [default: none]
    #[arg(
        long,
        env = "COVEY_NODE_ORIGINS",
        value_name = "ORIGIN",
        value_delimiter = ',',
        help_heading = "Nodes"
    )]
    pub node_origins: Option<Vec<String>>,
    /// Address of the node broker, for web clients (/ws, without a credential) and gateways of others (/gw), such
    /// as 127.0.0.1:8000 [default: none]
    #[arg(long, env = "COVEY_NODE_BROKER", value_name = "ADDR", help_heading = "Nodes")]
    pub node_broker: Option<SocketAddr>,
    /// Key file that gateways must have to connect to the node broker (covey key fernet); NAME=FILE for more than
    /// one, with the name that the serial numbers of their nodes begin with [default: none: no gateway may]
    #[arg(
        long,
        env = "COVEY_NODE_KEYS",
        value_name = "[NAME=]FILE",
        value_delimiter = ',',
        help_heading = "Nodes"
    )]
    pub node_keys: Option<Vec<NodeKeys>>,
    /// How long a value that a web client sets waits for its node, in minutes [default: 5]
    #[arg(long, env = "COVEY_NODE_BROKER_TTL", value_name = "MINUTES", help_heading = "Nodes")]
    pub node_broker_ttl: Option<u32>,
    /// Address of the HTTPS listener for client programs of microcontrollers (docs/mcu-http.md), such as
    /// 127.0.0.1:443; needs no API key, so it is on loopback, or has a key of its own [default: none]
    #[arg(long, env = "COVEY_MCU_HTTP", value_name = "ADDR", help_heading = "Microcontrollers")]
    pub mcu_http: Option<SocketAddr>,
    /// File with the key that requests to --mcu-http must show (Authorization: Bearer KEY), readable by its owner
    /// alone [default: none, on loopback only]
    #[arg(long, env = "COVEY_MCU_HTTP_KEY_FILE", value_name = "FILE", help_heading = "Microcontrollers")]
    pub mcu_http_key_file: Option<PathBuf>,
    /// What stands in front of the names of microcontrollers in their topics, such as the id of a customer: then
    /// PREFIX/NAME/CALL, with answers under server/PREFIX/NAME/CALL [default: none]
    #[arg(long, env = "COVEY_MCU_TOPIC_PREFIX", value_name = "PREFIX", help_heading = "Microcontrollers")]
    pub mcu_topic_prefix: Option<String>,
    /// Issuer whose tokens (JWT) are credentials, by its name in iss, such as https://login.example; further ones, and how
    /// claims are read, as [[token_issuers]] of the configuration file (docs/tokens.md) [default: none]
    #[arg(long, env = "COVEY_TOKEN_ISSUER", value_name = "ISSUER", help_heading = "Tokens")]
    pub token_issuer: Option<String>,
    /// Whom its tokens must be for, as in aud
    #[arg(long, env = "COVEY_TOKEN_AUDIENCE", value_name = "AUDIENCE", help_heading = "Tokens")]
    pub token_audience: Option<String>,
    /// Its public keys: a file (PEM, JWK, or JWK set), or the https:// URL of a JWK set [default: what the issuer says of
    /// itself under /.well-known/openid-configuration]
    #[arg(long, env = "COVEY_TOKEN_KEYS", value_name = "FILE|URL", help_heading = "Tokens")]
    pub token_keys: Option<String>,
    /// The claim that names the organisation, by number or name, such as app.org [default: orgId]
    #[arg(long, env = "COVEY_TOKEN_ORG_CLAIM", value_name = "CLAIM", help_heading = "Tokens")]
    pub token_org_claim: Option<String>,
    /// The one organisation that all of its tokens are for, by number or name, in place of --token-org-claim
    #[arg(long, env = "COVEY_TOKEN_ORG", value_name = "ORG", help_heading = "Tokens")]
    pub token_org: Option<OrgName>,
    /// More CA certificates (PEM) to trust for issuers
    #[arg(long, env = "COVEY_TOKEN_CA", value_name = "FILE", help_heading = "Tokens")]
    pub token_ca: Option<PathBuf>,
    /// Cookie in which browsers may show a token [default: accessToken]
    #[arg(long, env = "COVEY_TOKEN_COOKIE", value_name = "NAME", help_heading = "Tokens")]
    pub token_cookie: Option<String>,
    /// Issuers whose tokens are credentials.
    #[arg(skip)]
    pub token_issuers: Option<Vec<TokenIssuer>>,
    /// Where tasks are stored: sqlite (in the data directory) or
    /// postgres://USER:PASSWORD@HOST/DATABASE [default: sqlite]
    #[arg(
        long,
        env = "COVEY_STORE",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Distributed"
    )]
    pub store: Option<ServiceUrl>,
    /// The way to devices: embedded (a broker in this process), amqps://… of
    /// RabbitMQ 4, or mqtts://… of any MQTT 5 broker [default: embedded]
    #[arg(
        long,
        env = "COVEY_LINK",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Distributed"
    )]
    pub link: Option<ServiceUrl>,
    /// CA certificate of the broker (PEM) [default: the deployment's CA]
    #[arg(long, env = "COVEY_LINK_CA", value_name = "FILE", help_heading = "Distributed")]
    pub link_ca: Option<PathBuf>,
    /// Client certificate for the broker (PEM) [default: the server makes one]
    #[arg(long, env = "COVEY_LINK_CERTIFICATE", value_name = "FILE", help_heading = "Distributed")]
    pub link_certificate: Option<PathBuf>,
    /// Private key of the client certificate (PEM)
    #[arg(long, env = "COVEY_LINK_KEY", value_name = "FILE", help_heading = "Distributed")]
    pub link_key: Option<PathBuf>,
    /// RabbitMQ's management API, such as https://USER:PASSWORD@HOST:15671: the
    /// server keeps the accounts of devices there
    #[arg(
        long,
        env = "COVEY_RABBITMQ_MANAGEMENT",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Distributed"
    )]
    pub rabbitmq_management: Option<ServiceUrl>,
    /// Address at which devices reach the broker, such as
    /// mqtts://devices.example:8883 [default: that of the link]
    #[arg(long, env = "COVEY_DEVICES_URL", value_name = "URL", help_heading = "Distributed")]
    pub devices_url: Option<String>,
    /// Name of this server in its deployment; must stay the same over
    /// restarts [default: made from the host name and the data directory]
    #[arg(long, env = "COVEY_SERVER_NAME", value_name = "NAME", help_heading = "Distributed")]
    pub server_name: Option<String>,
    /// Folder with the CA of the deployment; the first start copies it into the
    /// data directory. All servers sign with the same CA
    #[arg(long, env = "COVEY_PKI_FROM", value_name = "DIR", help_heading = "Distributed")]
    pub pki_from: Option<PathBuf>,
    /// Address that certificates of devices name for the list of those that were revoked, such as
    /// http://covey.example:8080/pki/crl/{issuer}; {issuer} is the issuing CA
    #[arg(long, env = "COVEY_CRL_URL", value_name = "URL", help_heading = "Certificates")]
    pub crl_url: Option<String>,
    /// Address that certificates of devices name for questions whether they were revoked, such as
    /// http://covey.example:8080/pki/ocsp
    #[arg(long, env = "COVEY_OCSP_URL", value_name = "URL", help_heading = "Certificates")]
    pub ocsp_url: Option<String>,
    /// How many days to keep final tasks; 0 means for ever [default: 90]
    #[arg(long, env = "COVEY_RETENTION_DAYS", value_name = "N", help_heading = "Retention")]
    pub retention_days: Option<u32>,
    /// How many days to keep events; 0 means for ever [default: 90]
    #[arg(long, env = "COVEY_EVENT_RETENTION_DAYS", value_name = "N", help_heading = "Retention")]
    pub event_retention_days: Option<u32>,
    /// How many days to keep changes: how far back a stream or a webhook can go;
    /// 0 means for ever [default: 7]
    #[arg(long, env = "COVEY_RECORD_RETENTION_DAYS", value_name = "N", help_heading = "Retention")]
    pub record_retention_days: Option<u32>,
    /// How many days to keep reported values of twins; 0 means for ever
    /// [default: 90]
    #[arg(long, env = "COVEY_TWIN_RETENTION_DAYS", value_name = "N", help_heading = "Retention")]
    pub twin_retention_days: Option<u32>,
    /// How many days to keep the audit log, at least 30; 0 means for ever [default: 365]
    #[arg(long, env = "COVEY_AUDIT_RETENTION_DAYS", value_name = "N", help_heading = "Retention")]
    pub audit_retention_days: Option<u32>,
    /// OpenID provider with which people sign in, by its name in iss, such as https://login.example; further ones, and what a
    /// provider may say of people, as the tables oidc_logins of the configuration file do (docs/people.md) [default: none]
    #[arg(long, env = "COVEY_OIDC_LOGIN", value_name = "ISSUER", help_heading = "People")]
    pub oidc_login: Option<String>,
    /// What this server is called at the provider
    #[arg(long, env = "COVEY_OIDC_CLIENT_ID", value_name = "ID", help_heading = "People")]
    pub oidc_client_id: Option<String>,
    /// File with the secret that the provider has given it, readable by its owner alone [default: none: a public client]
    #[arg(long, env = "COVEY_OIDC_CLIENT_SECRET_FILE", value_name = "FILE", help_heading = "People")]
    pub oidc_client_secret_file: Option<PathBuf>,
    /// Providers with which people sign in.
    #[arg(skip)]
    pub oidc_logins: Option<Vec<OidcProvider>>,
    /// Address at which browsers reach this server, such as https://covey.example: the links in which people set a
    /// password, cookies, and the origin of the server's own pages follow it [default: as each request has it]
    #[arg(long, env = "COVEY_PUBLIC_URL", value_name = "URL", help_heading = "People")]
    pub public_url: Option<String>,
    /// Origins whose pages may call the REST API from a browser, such as
    /// https://dashboard.example:8443, with a key or with the client certificate
    /// of their user [default: none]
    #[arg(long, env = "COVEY_CORS_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origins: Option<Vec<String>>,
    /// More names or addresses of this server; its certificate contains them
    /// beside the host name and the machine's addresses
    #[arg(long = "name", env = "COVEY_NAMES", value_name = "HOST", value_delimiter = ',')]
    pub names: Option<Vec<String>>,
    /// Log level: error, warn, info, debug, trace, or a filter such as
    /// info,covey_link=debug [default: info]
    #[arg(long, env = "COVEY_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Log format [default: text]
    #[arg(long, env = "COVEY_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Lease in seconds: how long a device that took a task may be silent before
    /// the task is given out again [default: 60]
    #[arg(long, env = "COVEY_LEASE_SECONDS", value_name = "N")]
    pub lease_seconds: Option<u32>,
    /// How many announcements a device may leave unanswered at a time [default: 16]
    #[arg(long, env = "COVEY_ANNOUNCEMENTS_MAX", value_name = "N")]
    pub announcements_max: Option<u32>,
    /// How many tasks that are not final a device may have [default: 10000]
    #[arg(long, env = "COVEY_OPEN_TASKS_MAX", value_name = "N")]
    pub open_tasks_max: Option<u32>,
    /// How many events a device may send per second, on average; ten times as
    /// many at once after a silence; each twin value that an event reports
    /// counts as another event; 0 means no limit [default: 200]
    #[arg(long, env = "COVEY_EVENTS_PER_SECOND_MAX", value_name = "N")]
    pub events_per_second_max: Option<u32>,
    /// How much a device may send to be stored in a day, such as 500MB or 2GiB:
    /// bodies of events and results; 0 means no limit, and none of 512 KiB a second
    /// either [default: 4GiB]
    #[arg(long, env = "COVEY_DEVICE_BYTES_PER_DAY_MAX", value_name = "SIZE")]
    pub device_bytes_per_day_max: Option<Bytes>,
    /// How much an organisation with its devices and keys may send to be stored
    /// per second, on average; sixteen times as much at once after a silence;
    /// half of it for each key; 0 means no limit [default: 32MiB]
    #[arg(long, env = "COVEY_ORGANISATION_BYTES_PER_SECOND_MAX", value_name = "SIZE")]
    pub organisation_bytes_per_second_max: Option<Bytes>,
    /// How much a device may keep, such as 500MB or 2GiB: parameters and results of
    /// its tasks, events, earlier values of its twin; with more, nothing new is taken
    /// for it or from it; 0 means no limit [default: 16GiB]
    #[arg(long, env = "COVEY_DEVICE_BYTES_MAX", value_name = "SIZE")]
    pub device_bytes_max: Option<Bytes>,
    /// How much an organisation may keep, of all its devices together; with more,
    /// nothing new is taken for it; 0 means no limit [default: 0]
    #[arg(long, env = "COVEY_ORGANISATION_BYTES_MAX", value_name = "SIZE")]
    pub organisation_bytes_max: Option<Bytes>,
    /// Type codes of gauges: events of which only the last one is kept, such as
    /// health checks [default: 44]
    #[arg(long, env = "COVEY_GAUGE_TYPES", value_name = "CODE", value_delimiter = ',')]
    pub gauge_types: Option<Vec<u32>>,
    /// What the body of an rsp with a task is: its parameters (payload), or, for firmware that was
    /// written for it, the task with its parameters as a member (envelope) [default: payload]
    #[arg(long, env = "COVEY_RSP", value_name = "FORM")]
    pub rsp: Option<RspBody>,
    /// Addresses that webhooks may use beside public ones: ranges such as
    /// 10.1.0.0/16, and the words loopback, private, http (plain HTTP to public
    /// addresses), all
    #[arg(
        long,
        env = "COVEY_WEBHOOK_ALLOW",
        value_name = "RANGE",
        value_delimiter = ',',
        help_heading = "Webhooks"
    )]
    pub webhook_allow: Option<Vec<String>>,
    /// More CA certificates (PEM) to trust for receivers of webhooks
    #[arg(long, env = "COVEY_WEBHOOK_CA", value_name = "FILE", help_heading = "Webhooks")]
    pub webhook_ca: Option<PathBuf>,
    /// How long to repeat a message of a webhook, in seconds [default: 86400]
    #[arg(long, env = "COVEY_WEBHOOK_RETRY_SECONDS", value_name = "N", help_heading = "Webhooks")]
    pub webhook_retry_seconds: Option<u32>,
    /// How much of the disk must be free, such as 500MB or 2GiB: with less, new tasks, events and devices are
    /// refused, while results, deletions and revocations go on; 0 refuses nothing before the disk is full
    /// [default: 1GiB, or a twentieth of the disk where that is less]
    #[arg(long, env = "COVEY_DISK_FREE_MIN", value_name = "SIZE")]
    pub disk_free_min: Option<Bytes>,
    /// How many days old the last backup may be before covey doctor and /metrics say so; 0 if others look after
    /// backups [default: 7]
    #[arg(long, env = "COVEY_BACKUP_DAYS_MAX", value_name = "N")]
    pub backup_days_max: Option<u32>,
    /// How many sessions of devices the broker holds [default: 100000]
    #[arg(long, env = "COVEY_SESSIONS_MAX", value_name = "N")]
    pub sessions_max: Option<u32>,
    /// How much the broker may keep for devices that do not take it, over all of
    /// them, at least 1MiB: beyond it those for whom most is kept are cut off
    /// [default: 64MiB]
    #[arg(long, env = "COVEY_SESSIONS_BYTES_MAX", value_name = "SIZE")]
    pub sessions_bytes_max: Option<Bytes>,
    /// Largest MQTT packet that a device may send, in bytes [default: 1048576]
    #[arg(long, env = "COVEY_PACKET_BYTES_MAX", value_name = "N")]
    pub packet_bytes_max: Option<u32>,
    /// How much may wait of changes for all streams together, such as 64MiB: those that read
    /// the past take turns within one half, of those that are up to date the one
    /// with most is cut off first within the other [default: 64MiB]
    #[arg(long, env = "COVEY_STREAM_BYTES_MAX", value_name = "SIZE", help_heading = "Memory")]
    pub stream_bytes_max: Option<Bytes>,
    /// How much all large answers of the REST API may take together, such as 64MiB, those of
    /// one organisation half of that; the next ones wait for 2 seconds, then 503. As much may
    /// lie there of answers that were not taken; with more, connections are cut [default: 64MiB]
    #[arg(long, env = "COVEY_ANSWER_BYTES_MAX", value_name = "SIZE", help_heading = "Memory")]
    pub answer_bytes_max: Option<Bytes>,
    /// Lifetime of the server's certificate in seconds; the server renews it when
    /// a third is left [default: 34300800, that is 397 days]
    #[arg(long, env = "COVEY_SERVER_CERTIFICATE_SECONDS", value_name = "N")]
    pub server_certificate_seconds: Option<u32>,
    /// Lifetime of a device's certificate in seconds; it never outlives the CA
    /// [default: 315532800, that is 3652 days]
    #[arg(long, env = "COVEY_DEVICE_CERTIFICATE_SECONDS", value_name = "N")]
    pub device_certificate_seconds: Option<u32>,
    /// How many days after its end a device's certificate is still good for its own renewal over EST, and for nothing
    /// else; 0 means that it is not [default: 30]
    #[arg(long, env = "COVEY_RENEW_EXPIRED_DAYS", value_name = "N")]
    pub renew_expired_days: Option<u32>,
}

impl Options {
    /// These, and what they lack from others.
    fn over(self, others: Self) -> Self {
        macro_rules! each {
            ($($field:ident)*) => { Self { $($field: self.$field.or(others.$field)),* } };
        }
        each! {
            data http https mqtts metrics mdns nodes nodes_insist nodes_org nodes_out_after coap coap_interface coaps coap_psk mqtt_nodes
            mqtt_nodes_password_file mqtt_nodes_tls mqtt_nodes_client_ca mqtt_sn
            websocket_nodes unit_gateway units units_allow pusher node_origins node_broker node_keys node_broker_ttl mcu_http
            mcu_http_key_file mcu_topic_prefix token_issuer token_audience token_keys token_org_claim token_org
            token_ca token_cookie token_issuers oidc_login oidc_client_id oidc_client_secret_file oidc_logins store link
            link_ca link_certificate link_key rabbitmq_management
            devices_url server_name pki_from crl_url ocsp_url retention_days event_retention_days record_retention_days
            twin_retention_days audit_retention_days public_url cors_origins names log log_format lease_seconds announcements_max
            open_tasks_max events_per_second_max device_bytes_per_day_max organisation_bytes_per_second_max
            device_bytes_max organisation_bytes_max gauge_types rsp webhook_allow webhook_ca
            webhook_retry_seconds disk_free_min backup_days_max sessions_max sessions_bytes_max packet_bytes_max
            stream_bytes_max answer_bytes_max server_certificate_seconds device_certificate_seconds
            renew_expired_days
        }
    }
}

/// What the body of an `rsp` with a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RspBody {
    /// The task's parameters, byte for byte.
    #[default]
    Payload,
    /// The task, with its parameters as the member `payload`.
    Envelope,
}

/// Every setting, settled.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// The file they are from, if a URL in it has a password.
    #[serde(skip)]
    pub secret_file: Option<PathBuf>,
    pub data: PathBuf,
    pub store: ServiceUrl,
    pub link: ServiceUrl,
    pub link_ca: Option<PathBuf>,
    pub link_certificate: Option<PathBuf>,
    pub link_key: Option<PathBuf>,
    pub rabbitmq_management: Option<ServiceUrl>,
    pub devices_url: Option<String>,
    pub server_name: String,
    pub pki_from: Option<PathBuf>,
    pub crl_url: Option<String>,
    pub ocsp_url: Option<String>,
    pub retention_days: u32,
    pub event_retention_days: u32,
    pub record_retention_days: u32,
    pub twin_retention_days: u32,
    pub audit_retention_days: u32,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub mqtts: SocketAddr,
    pub metrics: Option<SocketAddr>,
    pub mdns: bool,
    pub nodes: Admission,
    pub nodes_insist: bool,
    pub nodes_org: i64,
    pub nodes_out_after: OutAfter,
    pub coap: Option<SocketAddr>,
    pub coap_interface: Option<String>,
    pub coaps: Option<SocketAddr>,
    pub coap_psk: Option<PathBuf>,
    pub mqtt_nodes: Option<SocketAddr>,
    pub mqtt_nodes_password_file: Option<PathBuf>,
    pub mqtt_nodes_tls: bool,
    pub mqtt_nodes_client_ca: Option<PathBuf>,
    pub mqtt_sn: Option<SocketAddr>,
    pub websocket_nodes: Option<SocketAddr>,
    pub unit_gateway: bool,
    pub units: Option<PathBuf>,
    pub units_allow: Vec<String>,
    pub pusher: Option<PathBuf>,
    pub node_origins: Vec<String>,
    pub node_broker: Option<SocketAddr>,
    pub node_keys: Vec<NodeKeys>,
    pub node_broker_ttl: u32,
    pub mcu_http: Option<SocketAddr>,
    pub mcu_http_key_file: Option<PathBuf>,
    pub mcu_topic_prefix: Option<String>,
    pub public_url: Option<String>,
    pub cors_origins: Vec<String>,
    pub names: Vec<String>,
    pub log: String,
    pub log_format: LogFormat,
    pub lease_seconds: u32,
    pub announcements_max: u32,
    pub open_tasks_max: u32,
    pub events_per_second_max: u32,
    pub device_bytes_per_day_max: Bytes,
    pub organisation_bytes_per_second_max: Bytes,
    pub device_bytes_max: Bytes,
    pub organisation_bytes_max: Bytes,
    pub gauge_types: Vec<u32>,
    pub rsp: RspBody,
    pub webhook_allow: Vec<String>,
    pub webhook_ca: Option<PathBuf>,
    pub webhook_retry_seconds: u32,
    /// None for what suits the disk.
    pub disk_free_min: Option<Bytes>,
    pub backup_days_max: u32,
    pub sessions_max: u32,
    pub sessions_bytes_max: Bytes,
    pub packet_bytes_max: u32,
    pub stream_bytes_max: Bytes,
    pub answer_bytes_max: Bytes,
    pub server_certificate_seconds: u32,
    pub device_certificate_seconds: u32,
    pub renew_expired_days: u32,
    pub token_ca: Option<PathBuf>,
    pub token_cookie: Option<String>,
    /// Last, because these are lists of tables.
    pub token_issuers: Vec<TokenIssuer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oidc_logins: Vec<OidcProvider>,
}

/// What the store and the link are called that need no other program.
pub const SQLITE: &str = "sqlite";
pub const EMBEDDED: &str = "embedded";

fn url(text: &str) -> ServiceUrl {
    match text.parse() {
        Ok(url) => url,
    }
}

fn days(given: Option<u32>, kept: RetentionClass) -> u32 {
    given.unwrap_or_else(|| RetentionDays::default().of(kept))
}

/// A name that two servers on one machine, or on two, do not share.
fn server_name(data: &Path) -> String {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
    let path = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    let digest: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{host}-{digest}")
}

const DEFAULT_DATA: &str = "covey-data";
const DEFAULT_HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_HTTPS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 8443);
const DEFAULT_MQTTS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 8883);
/// The least that may be kept for all devices together: one that is away may need it.
const SESSIONS_BYTES_MIN: u64 = 1024 * 1024;
/// As [`Budgets::default`] has it.
const DEFAULT_EVENTS_PER_SECOND: u32 = 200;
const DEFAULT_NODE_BROKER_TTL_MINUTES: u32 = 5;
/// The health check (device-events "Gauges").
const GAUGE_TYPE: u32 = 44;
/// How many sessions of devices the embedded broker holds, those of devices that are away included.
/// Limit for the server, set by `--sessions-max`: 0x97 for a device that has none.
const DEFAULT_SESSIONS_MAX: u32 = 100_000;
/// Largest MQTT packet of a device, in bytes.
/// Limit for each device, set by `--packet-bytes-max`: 0x95 and the connection is closed.
const DEFAULT_PACKET_BYTES_MAX: u32 = 1024 * 1024;
const DEFAULT_SERVER_CERTIFICATE_SECONDS: u32 = 397 * 24 * 3600;
/// 3652 days.
const DEFAULT_DEVICE_CERTIFICATE_SECONDS: u32 = 3652 * 24 * 60 * 60;
const DEFAULT_RENEW_EXPIRED_DAYS: u32 = 30;
/// How long a message of a webhook is repeated, in seconds.
/// Limit for each message, set by `--webhook-retry-seconds`: it becomes a dead letter.
const DEFAULT_WEBHOOK_RETRY_SECONDS: u32 = 24 * 3600;
/// How old the last backup may be before somebody is told.
const DEFAULT_BACKUP_DAYS: u32 = 7;
/// How much streams, and large answers, may take.
const DEFAULT_BYTES_MAX: Bytes = Bytes(64 << 20);

impl Settings {
    /// Settles the settings: what `given` holds wins over the file.
    pub fn settle(given: Options, file: Option<&Path>) -> Result<Self> {
        let of_file = file.map(read).transpose()?.unwrap_or_default();
        let urls = [&of_file.store, &of_file.link, &of_file.rabbitmq_management];
        let is_secret = urls.into_iter().flatten().any(ServiceUrl::has_password);
        let secret_file = file.filter(|_| is_secret).map(Path::to_owned);
        let options = given.over(of_file);
        let token_issuers = token_issuers(&options)?;
        let oidc_logins = people::providers(&options)?;
        let limits = covey_core::limits::Limits::default();
        let Budgets { device, org, .. } = Budgets::default();
        let data = options.data.unwrap_or_else(|| DEFAULT_DATA.into());
        let nodes = options.nodes;
        let mut settings = Self {
            secret_file,
            store: options.store.unwrap_or_else(|| url(SQLITE)),
            link: options.link.unwrap_or_else(|| url(EMBEDDED)),
            link_ca: options.link_ca,
            link_certificate: options.link_certificate,
            link_key: options.link_key,
            rabbitmq_management: options.rabbitmq_management,
            devices_url: options.devices_url,
            server_name: options.server_name.unwrap_or_else(|| server_name(&data)),
            pki_from: options.pki_from,
            crl_url: options.crl_url,
            ocsp_url: options.ocsp_url,
            retention_days: days(options.retention_days, RetentionClass::Tasks),
            event_retention_days: days(options.event_retention_days, RetentionClass::Events),
            record_retention_days: days(options.record_retention_days, RetentionClass::Records),
            twin_retention_days: days(options.twin_retention_days, RetentionClass::TwinHistory),
            audit_retention_days: days(options.audit_retention_days, RetentionClass::Audit),
            data,
            http: options.http.unwrap_or(DEFAULT_HTTP),
            https: options.https.unwrap_or(DEFAULT_HTTPS),
            mqtts: options.mqtts.unwrap_or(DEFAULT_MQTTS),
            metrics: options.metrics,
            mdns: options.mdns.unwrap_or_default(),
            nodes: options.nodes.unwrap_or(Admission::Open),
            nodes_insist: options.nodes_insist.unwrap_or_default(),
            nodes_org: options.nodes_org.unwrap_or(1),
            nodes_out_after: options.nodes_out_after.unwrap_or_default(),
            coap: options.coap,
            coap_interface: options.coap_interface,
            coaps: options.coaps,
            coap_psk: options.coap_psk,
            mqtt_nodes: options.mqtt_nodes,
            mqtt_nodes_password_file: options.mqtt_nodes_password_file,
            mqtt_nodes_tls: options.mqtt_nodes_tls.unwrap_or_default(),
            mqtt_nodes_client_ca: options.mqtt_nodes_client_ca,
            mqtt_sn: options.mqtt_sn,
            websocket_nodes: options.websocket_nodes,
            unit_gateway: options.unit_gateway.unwrap_or_default(),
            units: options.units,
            units_allow: options.units_allow.unwrap_or_else(|| vec!["private".to_owned()]),
            pusher: options.pusher,
            node_origins: options.node_origins.unwrap_or_default(),
            node_broker: options.node_broker,
            node_keys: options.node_keys.unwrap_or_default(),
            node_broker_ttl: options.node_broker_ttl.unwrap_or(DEFAULT_NODE_BROKER_TTL_MINUTES),
            mcu_http: options.mcu_http,
            mcu_http_key_file: options.mcu_http_key_file,
            mcu_topic_prefix: options.mcu_topic_prefix,
            public_url: options.public_url,
            cors_origins: options.cors_origins.unwrap_or_default(),
            names: options.names.unwrap_or_default(),
            log: options.log.unwrap_or_else(|| "info".to_owned()),
            log_format: options.log_format.unwrap_or_default(),
            lease_seconds: options.lease_seconds.unwrap_or(60),
            announcements_max: options.announcements_max.unwrap_or(limits.announcements_max),
            open_tasks_max: options.open_tasks_max.unwrap_or(limits.live_tasks_per_device_max),
            events_per_second_max: options.events_per_second_max.unwrap_or(DEFAULT_EVENTS_PER_SECOND),
            device_bytes_per_day_max: options.device_bytes_per_day_max.unwrap_or(Bytes(device.bytes_a_day)),
            organisation_bytes_per_second_max: options
                .organisation_bytes_per_second_max
                .unwrap_or(Bytes(org.bytes.per_second)),
            device_bytes_max: options.device_bytes_max.unwrap_or(Bytes(limits.device_bytes_max)),
            organisation_bytes_max: options.organisation_bytes_max.unwrap_or(Bytes(limits.org_bytes_max)),
            gauge_types: options.gauge_types.unwrap_or_else(|| vec![GAUGE_TYPE]),
            rsp: options.rsp.unwrap_or_default(),
            webhook_allow: options.webhook_allow.unwrap_or_default(),
            webhook_ca: options.webhook_ca,
            webhook_retry_seconds: options.webhook_retry_seconds.unwrap_or(DEFAULT_WEBHOOK_RETRY_SECONDS),
            disk_free_min: options.disk_free_min,
            backup_days_max: options.backup_days_max.unwrap_or(DEFAULT_BACKUP_DAYS),
            sessions_max: options.sessions_max.unwrap_or(DEFAULT_SESSIONS_MAX),
            sessions_bytes_max: options
                .sessions_bytes_max
                .unwrap_or(Bytes(covey_link::embedded::HELD_BYTES_MAX as u64)),
            packet_bytes_max: options.packet_bytes_max.unwrap_or(DEFAULT_PACKET_BYTES_MAX),
            stream_bytes_max: options.stream_bytes_max.unwrap_or(DEFAULT_BYTES_MAX),
            answer_bytes_max: options.answer_bytes_max.unwrap_or(DEFAULT_BYTES_MAX),
            server_certificate_seconds: options
                .server_certificate_seconds
                .unwrap_or(DEFAULT_SERVER_CERTIFICATE_SECONDS),
            device_certificate_seconds: options
                .device_certificate_seconds
                .unwrap_or(DEFAULT_DEVICE_CERTIFICATE_SECONDS),
            renew_expired_days: options.renew_expired_days.unwrap_or(DEFAULT_RENEW_EXPIRED_DAYS),
            token_ca: options.token_ca,
            token_cookie: options.token_cookie,
            token_issuers,
            oidc_logins,
        };
        let is_local = settings.node_listeners().all(|address| address.ip().is_loopback());
        settings.nodes = nodes.unwrap_or(if is_local { Admission::Open } else { Admission::Approve });
        settings.check()?;
        Ok(settings)
    }

    /// The addresses at which nodes are heard that show nothing: whoever reaches `coaps` has a key.
    pub fn node_listeners(&self) -> impl Iterator<Item = SocketAddr> {
        [self.coap, self.mqtt_nodes, self.mqtt_sn, self.websocket_nodes].into_iter().flatten()
    }

    /// After how long a silence a node of this gateway is out.
    pub fn nodes_silence(&self, gateway: &str) -> Duration {
        Duration::from_secs(self.nodes_out_after.of(gateway).into())
    }

    fn check(&self) -> Result<()> {
        let wrong = |name: &str, must: &str| Err(fault::setup(format!("the setting {name} must be {must}")));
        if !self.http.ip().is_loopback() {
            return wrong("http", "a loopback address, such as 127.0.0.1:8080; use https for the network");
        }
        let is_open = self.nodes == Admission::Open && !self.nodes_insist;
        if is_open && self.node_listeners().any(|address| !address.ip().is_loopback()) {
            return wrong(
                "nodes",
                "known or approve where other machines reach a listener of nodes: whoever does would join; \
                 --nodes-insist insists on open",
            );
        }
        let is_rule = AddressRule::parse(self.units_allow.iter().map(String::as_str)).is_ok();
        if !is_rule || self.units_allow.iter().any(|word| word == "http") {
            return wrong("units_allow", "ranges such as 10.1.0.0/16, or the words private, loopback, all");
        }
        if self.coaps.is_some() != self.coap_psk.is_some() {
            return wrong("coap_psk", "given together with coaps");
        }
        if self.mqtt_nodes.is_none() && (self.mqtt_nodes_password_file.is_some() || self.mqtt_nodes_tls) {
            return wrong("mqtt_nodes", "given together with mqtt_nodes_password_file and mqtt_nodes_tls");
        }
        if self.mqtt_nodes_client_ca.is_some() && !self.mqtt_nodes_tls {
            return wrong("mqtt_nodes_client_ca", "given together with mqtt_nodes_tls");
        }
        if self.node_broker.is_none() && !self.node_keys.is_empty() {
            return wrong("node_keys", "given together with node_broker");
        }
        let mut names: Vec<&str> = self.node_keys.iter().map(|keys| keys.gateway.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|two| two[0] == two[1]) {
            return wrong("node_keys", "of different names, such as --node-keys attic=FILE,cellar=FILE");
        }
        match self.mcu_http {
            None if self.mcu_http_key_file.is_some() || self.mcu_topic_prefix.is_some() => {
                return wrong("mcu_http", "given together with mcu_http_key_file and mcu_topic_prefix");
            }
            Some(_) if self.link.scheme() != EMBEDDED => {
                return wrong(
                    "link",
                    "embedded where mcu_http is given: no other broker lets microcontrollers in",
                );
            }
            Some(address) if !address.ip().is_loopback() && self.mcu_http_key_file.is_none() => {
                return wrong(
                    "mcu_http",
                    "a loopback address, such as 127.0.0.1:443, or given together with mcu_http_key_file: its clients \
                     send no API key",
                );
            }
            _ => {}
        }
        // As a name of a device: one level of a topic, and none that means something else.
        let is_prefix = |prefix: &str| {
            Sn::parse(prefix).is_ok_and(|prefix| DeviceRegister::validate(Some(&prefix), None, &[]).is_ok())
        };
        if self.mcu_topic_prefix.as_deref().is_some_and(|prefix| !is_prefix(prefix)) {
            return wrong(
                "mcu_topic_prefix",
                "1 to 64 of the characters A-Z a-z 0-9 _ -, and not dev, srv, server, node or gateway",
            );
        }
        if let Some(problem) = self.token_issuers.iter().find_map(|issuer| issuer.config().err()) {
            return Err(fault::setup(format!("the setting {problem}")));
        }
        let mut issuers: Vec<&str> = self.token_issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
        issuers.sort_unstable();
        if issuers.windows(2).any(|two| two[0] == two[1]) {
            return wrong("token_issuers", "of different issuers");
        }
        if self.nodes_org < 1 {
            return wrong("nodes_org", "at least 1");
        }
        if !matches!(self.store.scheme(), SQLITE | "postgres" | "postgresql") {
            return wrong("store", "sqlite, or a URL that begins with postgres://");
        }
        if !matches!(self.link.scheme(), EMBEDDED | "amqp" | "amqps" | "mqtt" | "mqtts") {
            return wrong("link", "embedded, or a URL that begins with amqps:// or mqtts://");
        }
        if self.link_certificate.is_some() != self.link_key.is_some() {
            return wrong("link_certificate", "given together with link_key");
        }
        let name_chars = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !(1..=64).contains(&self.server_name.len()) || !self.server_name.chars().all(name_chars) {
            return wrong("server_name", "1 to 64 of the characters A-Z a-z 0-9 _ - .");
        }
        if self.devices_url.as_deref().is_some_and(|url| !url.starts_with("mqtts://")) {
            return wrong("devices_url", "a URL that begins with mqtts://");
        }
        for (name, value, range) in [
            ("retention_days", self.retention_days, 0..=DAYS_MAX),
            ("event_retention_days", self.event_retention_days, 0..=DAYS_MAX),
            ("record_retention_days", self.record_retention_days, 0..=DAYS_MAX),
            ("twin_retention_days", self.twin_retention_days, 0..=DAYS_MAX),
            ("audit_retention_days", self.audit_retention_days, 0..=DAYS_MAX),
            ("lease_seconds", self.lease_seconds, 1..=86_400),
            ("backup_days_max", self.backup_days_max, 0..=DAYS_MAX),
            ("announcements_max", self.announcements_max, 1..=1_000),
            ("open_tasks_max", self.open_tasks_max, 1..=1_000_000),
            ("events_per_second_max", self.events_per_second_max, 0..=1_000_000),
            ("node_broker_ttl", self.node_broker_ttl, 1..=44_639),
            ("webhook_retry_seconds", self.webhook_retry_seconds, 1..=30 * 24 * 3600),
            ("packet_bytes_max", self.packet_bytes_max, 65_536..=16 * 1024 * 1024),
        ] {
            if !range.contains(&value) {
                return wrong(name, &format!("{} to {}", range.start(), range.end()));
            }
        }
        if (1..AUDIT_DAYS_MIN).contains(&self.audit_retention_days) {
            return wrong("audit_retention_days", "0, or 30 to 36500");
        }
        for (name, value, min) in [
            ("stream_bytes_max", self.stream_bytes_max, Bytes(8 << 20)),
            ("answer_bytes_max", self.answer_bytes_max, Bytes(32 << 20)),
        ] {
            if value.0 < min.0 {
                return wrong(name, &format!("at least {min}"));
            }
        }
        let is_type = |code: &u32| i64::from(*code) <= covey_core::event::EVENT_TYPE_CODE_MAX;
        if self.gauge_types.len() > 64 || !self.gauge_types.iter().all(is_type) {
            return wrong("gauge_types", "at most 64 type codes of 0 to 2147483647");
        }
        for (key, url) in [("crl_url", &self.crl_url), ("ocsp_url", &self.ocsp_url)] {
            if url.as_deref().is_some_and(|url| !covey_pki::RevocationUrls::is_good(url)) {
                return wrong(key, "a URL of http or https in ASCII, of at most 256 characters");
            }
        }
        people::check(&self.oidc_logins, self.public_url.as_deref())?;
        if let Err(must) = AllowedOrigins::read(self.cors_origins.iter().map(String::as_str)) {
            return wrong("cors_origins", must);
        }
        if AddressRule::parse(self.webhook_allow.iter().map(String::as_str)).is_err() {
            return wrong(
                "webhook_allow",
                "ranges such as 10.1.0.0/16, or the words loopback, private, http, all",
            );
        }
        if self.sessions_max == 0 {
            return wrong("sessions_max", "at least 1");
        }
        if self.sessions_bytes_max.0 < SESSIONS_BYTES_MIN {
            return wrong("sessions_bytes_max", "at least 1MiB");
        }
        if self.server_certificate_seconds < 6 {
            return wrong("server_certificate_seconds", "at least 6");
        }
        if self.device_certificate_seconds < 1 {
            return wrong("device_certificate_seconds", "at least 1");
        }
        Ok(())
    }
}

/// The issuers of the configuration file, and the one of the command line.
fn token_issuers(options: &Options) -> Result<Vec<TokenIssuer>> {
    let mut issuers = options.token_issuers.clone().unwrap_or_default();
    if let Some(issuer) = &options.token_issuer {
        issuers.push(TokenIssuer {
            issuer: issuer.clone(),
            audience: options.token_audience.clone().unwrap_or_default(),
            keys: options.token_keys.clone(),
            org: options.token_org.clone(),
            org_claim: options.token_org_claim.clone(),
            ..TokenIssuer::default()
        });
    } else if options.token_audience.is_some()
        || options.token_keys.is_some()
        || options.token_org_claim.is_some()
        || options.token_org.is_some()
    {
        let problem = "the setting token_issuer must be given together with token_audience, token_keys, token_org_claim and token_org";
        return Err(fault::setup(problem));
    }
    Ok(issuers)
}

fn read(path: &Path) -> Result<Options> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        fault::setup(format!("cannot read the configuration {}: {error}", path.display()))
    })?;
    toml::from_str(&text).map_err(|error| {
        let line =
            error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let problem = error.message();
        fault::setup(format!("the configuration {} is wrong at line {line}: {problem}", path.display()))
    })
}

#[cfg(test)]
mod tests;
