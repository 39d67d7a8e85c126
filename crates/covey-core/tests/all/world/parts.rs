//! Parts of an engine that a test holds in its hand: a clock that stands still
//! until it is set, a link that remembers, ids that repeat.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use covey_core::device::{CertificateRecord, IssuedCertificate};
use covey_core::error::Result;
use covey_core::id::{OrgId, Sn, TaskId, UnixMs};
use covey_core::node::NodeName;
use covey_core::port::{
    Announcement, BoxFuture, CertificateIssuer, CertificateKey, Clock, Event, Ids, Link, Observer, Step,
};
use covey_core::record::Record;
use covey_core::webhook::{
    Attempt, Endpoint, EndpointSpec, NoWebhooks, ProbeFault, WebhookSecret, WebhookSender,
};

/// The instant at which every test begins.
pub const BEGIN: UnixMs = UnixMs(1_700_000_000_000);

/// A clock that a test sets.
pub struct TestClock(AtomicI64);

impl Default for TestClock {
    fn default() -> Self {
        Self(AtomicI64::new(BEGIN.0))
    }
}

impl TestClock {
    pub fn pass_ms(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixMs {
        UnixMs(self.0.load(Ordering::SeqCst))
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::SeqCst)).unwrap() * 1000
    }
}

/// A link that remembers what it was told.
#[derive(Default)]
pub struct RecordingLink {
    announced: Mutex<Vec<Announcement>>,
    revoked: Mutex<Vec<Sn>>,
    revoked_certificates: Mutex<Vec<(Sn, String)>>,
    changed: Mutex<Vec<(OrgId, NodeName)>>,
}

impl RecordingLink {
    /// What was announced since the last call, in order.
    pub fn announced(&self) -> Vec<Announcement> {
        std::mem::take(&mut self.announced.lock().unwrap())
    }

    pub fn revoked(&self) -> Vec<Sn> {
        self.revoked.lock().unwrap().clone()
    }

    /// The certificates whose connections were to be closed, since the last call.
    pub fn revoked_certificates(&self) -> Vec<(Sn, String)> {
        std::mem::take(&mut self.revoked_certificates.lock().unwrap())
    }

    /// The nodes of which gateways may get another answer, since the last call.
    pub fn changed(&self) -> Vec<(OrgId, NodeName)> {
        std::mem::take(&mut self.changed.lock().unwrap())
    }
}

/// The name of that link.
pub const LINK: &str = "recording";

impl Link for RecordingLink {
    fn announce(&self, task: Announcement) {
        self.announced.lock().unwrap().push(task);
    }

    fn revoke(&self, sn: &Sn) {
        self.revoked.lock().unwrap().push(sn.clone());
    }

    fn revoke_certificate(&self, sn: &Sn, serial_hex: &str) {
        self.revoked_certificates.lock().unwrap().push((sn.clone(), serial_hex.to_owned()));
    }

    fn node_changed(&self, org: OrgId, name: &NodeName) {
        self.changed.lock().unwrap().push((org, name.clone()));
    }

    fn name(&self) -> &'static str {
        LINK
    }

    fn admit(&self, _: &Sn) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn is_shared(&self) -> bool {
        false
    }
}

/// An observer that counts.
#[derive(Default)]
pub struct Counts {
    events: Mutex<HashMap<Event, usize>>,
}

impl Counts {
    pub fn of(&self, event: Event) -> usize {
        self.events.lock().unwrap().get(&event).copied().unwrap_or(0)
    }

    /// The sizes of all groups that were committed since the last reset.
    pub fn groups(&self) -> Vec<usize> {
        let events = self.events.lock().unwrap();
        let groups = events.iter().filter_map(|(event, count)| match event {
            Event::Committed { operations } => Some(vec![*operations; *count]),
            _ => None,
        });
        groups.flatten().collect()
    }

    pub fn reset(&self) {
        self.events.lock().unwrap().clear();
    }
}

impl Observer for Counts {
    fn took(&self, _: Step, _: u64) {}

    fn happened(&self, event: Event) {
        *self.events.lock().unwrap().entry(event).or_default() += 1;
    }
}

/// Ids that count up.
#[derive(Default)]
pub struct CountedIds(AtomicU64);

impl CountedIds {
    pub fn skip_to(&self, number: u64) {
        self.0.store(number, Ordering::SeqCst);
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

impl Ids for CountedIds {
    fn task_id(&self) -> TaskId {
        TaskId(uuid::Uuid::from_u128(0xc0_0000_0000_0000 + u128::from(self.next())))
    }

    fn sn(&self) -> Sn {
        Sn::parse(&format!("sn-{}", self.next())).unwrap()
    }

    fn api_key(&self) -> String {
        format!("key-{}", self.next())
    }
}

/// An issuer whose certificates have a serial number and nothing else.
#[derive(Default)]
pub struct FakeIssuer(AtomicU64);

impl CertificateIssuer for FakeIssuer {
    fn issue(&self, sn: &Sn, _: CertificateKey<'_>, now: UnixMs) -> Result<IssuedCertificate> {
        let serial = self.0.fetch_add(1, Ordering::SeqCst) + 0xa0;
        Ok(IssuedCertificate {
            record: CertificateRecord {
                serial_hex: format!("{serial:x}"),
                not_after: now.plus_ms(86_400_000),
            },
            certificate_pem: format!("certificate of {sn}"),
            ca_pem: String::new(),
            private_key_pem: None,
        })
    }

    /// Of a text `SN NAME`.
    fn imported(&self, _ca: &str, pem: &str, now: UnixMs) -> Result<(Sn, CertificateRecord)> {
        let (sn, serial_hex) = pem.split_once(' ').unwrap();
        let record =
            CertificateRecord { serial_hex: serial_hex.to_owned(), not_after: now.plus_ms(86_400_000) };
        Ok((Sn::parse(sn).unwrap(), record))
    }

    fn issue_claim(&self, not_after: UnixMs, _: UnixMs) -> Result<IssuedCertificate> {
        let serial = self.0.fetch_add(1, Ordering::SeqCst) + 0xa0;
        Ok(IssuedCertificate {
            record: CertificateRecord { serial_hex: format!("{serial:x}"), not_after },
            certificate_pem: "certificate of a claim".to_owned(),
            ca_pem: String::new(),
            private_key_pem: None,
        })
    }
}

/// A digest that differs for keys that differ, and is no more than that.
pub fn digest(clear_text: &str) -> [u8; 32] {
    let mut digest = [0_u8; 32];
    for (place, byte) in clear_text.bytes().enumerate() {
        digest[place % 32] = digest[place % 32].wrapping_mul(31).wrapping_add(byte);
    }
    digest
}

/// The parts that outlive a restart of the server.
#[derive(Clone, Default)]
pub struct Outside {
    pub clock: Arc<TestClock>,
    pub counts: Arc<Counts>,
    pub ids: Arc<CountedIds>,
    pub issuer: Arc<FakeIssuer>,
}

/// Lets every webhook be kept, and sends nothing.
pub struct SilentSender;

impl WebhookSender for SilentSender {
    fn secret(&self) -> WebhookSecret {
        WebhookSecret::new("whsec_c2VjcmV0")
    }

    fn check(&self, _: &str, _: Option<&WebhookSecret>) -> Result<()> {
        Ok(())
    }

    fn probe(&self, _: EndpointSpec) -> BoxFuture<'_, std::result::Result<(), ProbeFault>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn send(&self, endpoint: Arc<Endpoint>, record: Arc<Record>, id: String) -> BoxFuture<'_, Attempt> {
        NoWebhooks.send(endpoint, record, id)
    }

    fn changed(&self) {}
}
