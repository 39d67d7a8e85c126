//! The port to those who watch the system: durations and counts.

use crate::named::named;

named! {
    /// A step whose duration is measured.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Step {
        /// From the application's request to the commit of the new task.
        Create => "create",
        /// From the creation of a task to the device taking it.
        Wait => "wait",
        /// From the device's request for a task to the commit.
        Take => "take",
        /// From the device taking the task to its final result.
        Run => "run",
        /// From the arrival of a result to its commit.
        Finish => "finish",
        /// From the creation of a task to its final result.
        Call => "call",
        /// From the arrival of an event to its commit.
        Event => "event",
        /// From a change to the receiver's answer that a webhook delivered it.
        Webhook => "webhook",
        /// One commit of the store, its fsync included.
        Commit => "commit",
    }
}

named! {
    /// Why something that a stranger sent was refused.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Refusal {
        /// A client id that differs from the certificate's CommonName.
        ClientIdNotCn => "client_id_not_cn",
        /// A certificate that is unknown or was revoked, or a device that was retired.
        NotAdmitted => "not_admitted",
        /// No certificate, or none that can be read.
        NoCertificate => "no_certificate",
        /// A publish to a topic that is not the device's own.
        PublishTopic => "publish_topic",
        /// A publish to a topic of the device's own that means nothing.
        UnknownTopic => "unknown_topic",
        /// A device that was put out because it went on where it may not, or came again too soon.
        PutOut => "put_out",
        /// A subscription that is not the device's own.
        SubscribeTopic => "subscribe_topic",
        /// A message without a correlation, or with one that cannot be read.
        Correlation => "correlation",
        /// A result without a status code, or with one that is no integer.
        StatusCode => "status_code",
        /// A message whose body cannot be read.
        Payload => "payload",
        /// A message about a task that is not the device's.
        UnknownTask => "unknown_task",
        /// A result that is larger than any may be.
        ResultTooLarge => "result_too_large",
        /// A limit that was reached.
        Limit => "limit",
        /// More than a device may send.
        Flood => "flood",
        /// More than an API key may ask, or an organisation with its devices and keys.
        Budget => "budget",
        /// Something new of a device or an organisation that keeps as much as it may.
        Quota => "quota",
        /// A write that the store did not take.
        Storage => "storage",
        /// A request over HTTP without a valid credential.
        Credential => "credential",
        /// An answer over multicast DNS that cannot be true, or is too much.
        Discovery => "discovery",
        /// A TLS handshake or an MQTT packet that could not be understood.
        Protocol => "protocol",
    }
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
