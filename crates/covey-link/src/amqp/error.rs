//! What can go wrong between a server and RabbitMQ.

use covey_core::Error as StoreError;

use crate::tls::TlsError;

/// Why the link cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// The address of the broker cannot be understood.
    #[error(
        "the RabbitMQ address is wrong: {problem}; write amqps://USER:PASSWORD@HOST[:PORT][,HOST…]/VHOST"
    )]
    Url {
        /// What is wrong with it, without the address itself: it holds a password.
        problem: String,
    },
    /// The address of the management API cannot be understood.
    #[error(
        "the address of RabbitMQ's management API is wrong: {problem}; write https://USER:PASSWORD@HOST:15671"
    )]
    ManagementUrl {
        /// What is wrong with it, without the address itself: it holds a password.
        problem: String,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// None of the hosts answers.
    #[error("cannot reach RabbitMQ at {hosts}: {problem}")]
    Unreachable {
        /// The hosts that were tried.
        hosts: String,
        /// What the last one said.
        problem: String,
    },
    /// The broker does not accept the user, or the user may not enter the vhost.
    #[error(
        "RabbitMQ refuses the user {user} for the vhost {vhost}: {problem}; check the password in the link's \
         address, and the user's permissions with: rabbitmqctl list_permissions -p {vhost}"
    )]
    Credentials {
        /// The user.
        user: String,
        /// The vhost.
        vhost: String,
        /// What the broker said.
        problem: String,
    },
    /// A queue or an exchange cannot be declared.
    #[error(
        "cannot declare {what} in RabbitMQ: {problem}. If it is there with other settings, empty it and delete \
         it, then start again; if access was refused, give the user the rights of deploy/rabbitmq/README.md"
    )]
    Topology {
        /// The queue or exchange.
        what: String,
        /// What the broker said.
        problem: String,
    },
    /// Events about connections cannot be received.
    #[error(
        "RabbitMQ does not tell who connects ({problem}): enable the plugin rabbitmq_event_exchange, set \
         event_exchange.vhost, and give the user the rights of deploy/rabbitmq/README.md"
    )]
    Events {
        /// What the broker said.
        problem: String,
    },
    /// An operation over AMQP failed; the link connects again.
    #[error("RabbitMQ: {0}")]
    Broker(#[from] lapin::Error),
    /// The management API did not do what was asked.
    #[error("RabbitMQ's management API: {what}: {problem}")]
    Management {
        /// What was asked.
        what: String,
        /// What came of it.
        problem: String,
        /// The HTTP status, if there was an answer.
        status: Option<u16>,
    },
    /// A command needs the management API, and no address of it is set.
    #[error("this needs RabbitMQ's management API: set --rabbitmq-management or COVEY_RABBITMQ_MANAGEMENT")]
    NoManagement,
    /// The broker took no answer in time.
    #[error("RabbitMQ did not answer in {seconds} s")]
    Timeout {
        /// How long it was waited for.
        seconds: u64,
    },
    /// The store failed.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// The settings of a deployment cannot be used.
    #[error("{field}: {problem}")]
    Setting {
        /// Which setting.
        field: &'static str,
        /// What it must be.
        problem: String,
    },
}

impl AmqpError {
    /// Whether trying again will not help: the settings must be changed first.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::Url { .. }
                | Self::ManagementUrl { .. }
                | Self::Tls(_)
                | Self::Credentials { .. }
                | Self::Topology { .. }
                | Self::Events { .. }
                | Self::NoManagement
                | Self::Setting { .. }
        )
    }
}
