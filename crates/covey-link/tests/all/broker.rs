//! A broker, as the tests of all links see one: something that is there, with a port and certificates.

use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use covey_core::port::{CertificateIssuer, Clock, Observer};
use covey_link::TlsFiles;

/// A broker of one test, with the link to it.
pub trait AnyBroker: 'static {
    /// What a server's link is started with.
    type Options;
    type Link: covey_core::port::Link;
    type Running: Send + Sync;
    /// Whether a PUBACK says what became of a message.
    const ACKNOWLEDGES_AFTER_COMMIT: bool;
    /// How long a link that is up takes until its server is ready for a test.
    const UP_TO_SETTLED: Duration = Duration::ZERO;

    /// Where devices connect on the loopback address.
    fn port(&self) -> u16;

    /// A serial number that no other test has at this broker.
    fn sn(&self, name: &str) -> String {
        name.to_owned()
    }

    /// The files of a device.
    fn device(&self, sn: &str) -> TlsFiles;

    /// Who signs what a site stores of certificates.
    fn issuer(&self) -> Arc<dyn CertificateIssuer>;

    /// What the server `name` of a site is started with.
    fn options(&self, name: &str) -> Self::Options;

    fn link(options: Self::Options, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<Self::Link>;

    fn is_up(link: &Self::Link) -> bool;

    async fn run(link: Arc<Self::Link>, engine: Arc<Engine>) -> Self::Running;

    async fn stop(running: Self::Running);
}
