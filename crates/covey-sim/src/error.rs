//! What can keep a simulation or a benchmark from running. Each variant says
//! what to do next.

use std::path::PathBuf;
use std::time::Duration;

/// The result of a simulation or a benchmark.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a simulation or a benchmark could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused a request, or could not be asked.
    #[error(transparent)]
    Client(#[from] covey_client::Error),
    /// A device's identity cannot be used.
    #[error(transparent)]
    Device(#[from] covey_device::Error),
    /// A wanted SN belongs to a device whose key is not here.
    #[error(
        "device {sn} is registered already, and its key is not in {}: give the folder that has it with --identities, or other devices with --prefix, or retire it",
        dir.display()
    )]
    DeviceTaken {
        /// Its SN.
        sn: String,
        /// The folder of identities.
        dir: PathBuf,
    },
    /// The server gave no private key for a device that it registered.
    #[error("the server made no key for device {sn}: it is not a Covey server of this version")]
    KeyMissing {
        /// Its SN.
        sn: String,
    },
    /// The folder of identities cannot be read or written.
    #[error("cannot use {}: {source}; give another folder with --identities", path.display())]
    Identities {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Two programs with the same devices would throw each other's out.
    #[error("{} is in use by another simulation or benchmark: stop it, or give another folder with --identities", path.display())]
    IdentitiesInUse {
        /// The file.
        path: PathBuf,
    },
    /// Devices did not connect.
    #[error("{missing} of {count} devices did not connect within {} s, the first is {sn}: {why}", waited.as_secs())]
    NotConnected {
        /// How many did not.
        missing: usize,
        /// Of how many.
        count: usize,
        /// One of them.
        sn: String,
        /// What its connection says.
        why: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The system allows too few open files for so many devices.
    #[error(
        "{wanted} open files are needed and {limit} allowed: raise the limit with `ulimit -n {wanted}`, or take fewer devices"
    )]
    OpenFiles {
        /// How many are needed.
        wanted: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// The private server could not be started.
    #[error("the private server cannot be started: {source}")]
    OwnServerStart {
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The private server has found a deployment that has an API key already.
    #[error("the private server's database belongs to a deployment that has begun; give it an empty one")]
    OwnServerKey,
    /// The private server ended before it was ready.
    #[error("the private server did not get ready: {log}")]
    OwnServerEnded {
        /// The end of what it said.
        log: String,
    },
    /// No call of the benchmark came to a good end.
    #[error("no call succeeded: {why}")]
    NoCall {
        /// What went wrong, and how often.
        why: String,
    },
    /// No event of the benchmark was acknowledged.
    #[error("no event was acknowledged: {why}")]
    NoEvent {
        /// What went wrong, and how often.
        why: String,
    },
    /// The address of the devices' server is not of the form that devices use.
    #[error("the address {url:?} is not usable: write mqtts://HOST:PORT")]
    Broker {
        /// As it was given.
        url: String,
    },
    /// The thread that makes load cannot be started.
    #[error("the thread that makes load cannot be started: {source}")]
    LoadThread {
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The way to the stream cannot be measured.
    #[error(
        "the way of an event to the stream cannot be measured: {why}; leave it out with --stream-events 0"
    )]
    Stream {
        /// What went wrong.
        why: String,
    },
    /// Open streams cannot be measured.
    #[error("open streams cannot be measured: {why}; try fewer with --streams, and look at the server's log")]
    Streams {
        /// What went wrong.
        why: String,
    },
    /// The gateway of nodes does not answer.
    #[error(
        "no gateway for {protocol} nodes answers at {address}: switch it on with covey up {switch}, or say where it is with --gateway"
    )]
    NoGateway {
        /// What the nodes speak.
        protocol: &'static str,
        /// Where it was looked for.
        address: String,
        /// The option that switches it on.
        switch: &'static str,
    },
    /// Microcontrollers were registered, and cannot connect.
    #[error(
        "no microcontroller can connect to {host}:{port}: {why}; say where devices connect with --broker mqtts://HOST:PORT, and what --mcu-topic-prefix the server has with the same option"
    )]
    NoDevicesPort {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What the connection says.
        why: String,
    },
    /// The address of the gateway of nodes is none.
    #[error(
        "the address {address:?} of the gateway is not usable: write HOST:PORT; CoAP nodes have addresses of IPv4"
    )]
    GatewayAddress {
        /// As it was given.
        address: String,
    },
    /// A node cannot have its address.
    #[error("no node can have the address {address}: {source}; give another with --base-address")]
    NodeAddress {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It was stopped before there was anything to tell.
    #[error("stopped before the benchmark was done")]
    Stopped,
    /// An output file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The plot cannot be drawn.
    #[error("the plot cannot be drawn: {why}")]
    Plot {
        /// What the drawing library says.
        why: String,
    },
}
