//! The port to those who watch the system: durations and counts.

/// A step whose duration is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// From the application's request to the commit of the new task.
    Create,
    /// From the creation of a task to the device taking it.
    Wait,
    /// From the device's request for a task to the commit.
    Take,
    /// From the device taking the task to its final result.
    Run,
    /// From the arrival of a result to its commit.
    Finish,
    /// From the creation of a task to its final result.
    Call,
    /// From the arrival of an event to its commit.
    Event,
    /// From a change to the receiver's answer that a webhook delivered it.
    Webhook,
    /// One commit of the store, its fsync included.
    Commit,
}

impl Step {
    /// Each step with its name.
    pub const NAMES: [(Self, &'static str); 9] = [
        (Self::Create, "create"),
        (Self::Wait, "wait"),
        (Self::Take, "take"),
        (Self::Run, "run"),
        (Self::Finish, "finish"),
        (Self::Call, "call"),
        (Self::Event, "event"),
        (Self::Webhook, "webhook"),
        (Self::Commit, "commit"),
    ];
}

/// Why something that a stranger sent was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A client id that differs from the certificate's CommonName.
    ClientIdNotCn,
    /// A certificate that is unknown or was revoked, or a device that was retired.
    NotAdmitted,
    /// No certificate, or none that can be read.
    NoCertificate,
    /// A publish to a topic that is not the device's own.
    PublishTopic,
    /// A publish to a topic of the device's own that means nothing.
    UnknownTopic,
    /// A subscription that is not the device's own.
    SubscribeTopic,
    /// A message without a correlation, or with one that cannot be read.
    Correlation,
    /// A result without a status code, or with one that is no integer.
    StatusCode,
    /// A message whose body cannot be read.
    Payload,
    /// A message about a task that is not the device's.
    UnknownTask,
    /// A limit that was reached.
    Limit,
    /// More events than a device may send.
    Flood,
    /// A write that the store did not take.
    Storage,
    /// A request over HTTP without a valid credential.
    Credential,
    /// A TLS handshake or an MQTT packet that could not be understood.
    Protocol,
}

impl Refusal {
    /// Each refusal with its name.
    pub const NAMES: [(Self, &'static str); 15] = [
        (Self::ClientIdNotCn, "client_id_not_cn"),
        (Self::NotAdmitted, "not_admitted"),
        (Self::NoCertificate, "no_certificate"),
        (Self::PublishTopic, "publish_topic"),
        (Self::UnknownTopic, "unknown_topic"),
        (Self::SubscribeTopic, "subscribe_topic"),
        (Self::Correlation, "correlation"),
        (Self::StatusCode, "status_code"),
        (Self::Payload, "payload"),
        (Self::UnknownTask, "unknown_task"),
        (Self::Limit, "limit"),
        (Self::Flood, "flood"),
        (Self::Storage, "storage"),
        (Self::Credential, "credential"),
        (Self::Protocol, "protocol"),
    ];
}

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A refusal.
    Refused(Refusal),
    /// A device connected.
    Connected,
    /// A device's connection ended.
    Disconnected,
    /// A task was announced to a device.
    Announced,
    /// A result came that had been stored before.
    DuplicateResult,
    /// An event was stored.
    EventStored,
    /// An event came that had been stored before.
    DuplicateEvent,
    /// A gauge was set.
    GaugeSet,
    /// A message of a webhook was sent, or given up.
    Webhook(crate::webhook::Outcome),
    /// A transaction was committed with this many operations.
    Committed {
        /// How many operations shared it.
        operations: usize,
    },
}

/// Someone who watches. Nothing here may wait or fail.
pub trait Observer: Send + Sync + 'static {
    /// A step took this long.
    fn took(&self, step: Step, duration_us: u64);
    /// Something happened.
    fn happened(&self, event: Event);
}
