//! The audit log: who did what, on which object, from where, with which outcome.
//!
//! Every operation says its entries ([`Operation::entries`](crate::Operation::entries)); the store writes those of a group
//! of operations at the end of the same transaction, as one row for each organisation ([`AuditRow`]). Rows are only ever
//! added, and each has the hash of the one before it in its own ([`chain`](AuditHead)), so that a change by hand is found.

mod calls;
mod chain;
mod entry;
mod forget;
mod operation;
mod port;
mod refusals;
mod scan;
mod verify;

pub use chain::{AuditGroup, AuditHash, AuditHead, AuditRow, HASH_OF_NOTHING, ROW_BYTES_MAX, hash_text};
pub use entry::{DETAIL_BYTES_MAX, cut, cut_at};
pub use forget::forgettable;
pub use operation::AuditAdd;
pub use port::{AuditChain, AuditReader, AuditSteps};
pub use refusals::{PATH_BYTES_MAX, Refusals, Refused, RefusedCall};
pub use scan::{
    AuditFilter, AuditPage, AuditPlace, AuditRequest, AuditScan, PAGE_MAX, PlacedEntry, SCAN_BYTES_MAX,
};
pub use verify::{AuditFlaw, AuditVerifier, FlawKind, Verified};

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use crate::access::{Caller, CallerKind};
use crate::device::DeviceIdentity;
use crate::id::OrgId;
use crate::named::named;

named! {
    /// What came of it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum AuditOutcome {
        /// It was done.
        Done => "done",
        /// It was refused.
        Refused => "refused",
    }
}

named! {
    /// What was done.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum AuditAction {
        /// A task was made.
        TaskCreate => "task.create",
        /// A task was deleted.
        TaskDelete => "task.delete",
        /// A device was registered.
        DeviceRegister => "device.register",
        /// A device got a tag.
        DeviceTag => "device.tag",
        /// A device was retired.
        DeviceRetire => "device.retire",
        /// A certificate was revoked, or all of a device.
        CertificateRevoke => "certificate.revoke",
        /// A claim was made.
        ClaimAdd => "claim.add",
        /// Serial numbers were listed of a claim.
        ClaimSerialsAdd => "claim.serials",
        /// A serial number may enrol once more.
        ClaimRelease => "claim.release",
        /// A claim was revoked.
        ClaimRevoke => "claim.revoke",
        /// A device enrolled by a claim.
        DeviceEnrol => "device.enrol",
        /// A device got its next certificate.
        DeviceRenew => "device.renew",
        /// A twin was changed.
        TwinChange => "twin.change",
        /// A node was listed.
        NodeAdd => "node.add",
        /// A node may join.
        NodeApprove => "node.approve",
        /// A node may not join.
        NodeBlock => "node.block",
        /// A node was forgotten.
        NodeRemove => "node.remove",
        /// A node got a name.
        NodeRename => "node.rename",
        /// A unit was listed.
        UnitAdd => "unit.add",
        /// A unit was changed.
        UnitSet => "unit.set",
        /// A unit was forgotten.
        UnitRemove => "unit.remove",
        /// A microcontroller got a certificate.
        MicrocontrollerRegister => "microcontroller.register",
        /// A microcontroller was retired.
        MicrocontrollerRetire => "microcontroller.retire",
        /// A webhook was added.
        WebhookAdd => "webhook.add",
        /// A webhook was changed.
        WebhookSet => "webhook.set",
        /// A webhook was removed.
        WebhookDelete => "webhook.delete",
        /// A webhook got another secret.
        WebhookRotate => "webhook.rotate",
        /// What a webhook could not deliver is tried again.
        WebhookResend => "webhook.resend",
        /// A webhook was sent a test.
        WebhookTest => "webhook.test",
        /// An API key was made.
        KeyAdd => "key.add",
        /// An API key was revoked.
        KeyRevoke => "key.revoke",
        /// A token was made from a key.
        TokenMake => "token.make",
        /// A person was made, or is in one more organisation.
        UserAdd => "user.add",
        /// What a person may do was set.
        UserRole => "user.role",
        /// A person was removed.
        UserRemove => "user.remove",
        /// A link was made with which a person sets a password.
        UserLink => "user.link",
        /// Somebody has signed in.
        SessionBegin => "session.begin",
        /// A session was ended.
        SessionEnd => "session.end",
        /// An organisation was made.
        OrgAdd => "org.add",
        /// An organisation got another name.
        OrgRename => "org.rename",
        /// The limits of an organisation were set.
        OrgLimits => "org.limits",
        /// The limits of an API key were set.
        KeyLimits => "key.limits",
        /// How long things are kept was set.
        RetentionSet => "retention.set",
        /// What was too old was forgotten because somebody asked for it.
        RetentionRun => "retention.run",
        /// A request was refused.
        RequestRefuse => "request.refuse",
    }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AuditActor {
    /// What kind of caller: that of a [`Caller`], `command` for the command line on the server's machine, `stranger` for
    /// nobody who is known.
    pub kind: Cow<'static, str>,
    /// The number of the credential; 0 if there is none.
    pub id: i64,
    /// What the credential is called; of a stranger the beginning of what it showed, if that may be told.
    pub name: Arc<str>,
}

impl AuditActor {
    /// The command line, on the machine of a server.
    #[must_use]
    pub fn command(line: &str) -> Self {
        Self { kind: Cow::Borrowed("command"), id: 0, name: Arc::from(line) }
    }

    /// The server itself.
    #[must_use]
    pub fn server(name: &str) -> Self {
        Self { kind: Cow::Borrowed("server"), id: 0, name: Arc::from(name) }
    }

    /// Nobody who is known.
    #[must_use]
    pub fn stranger(shown: &str) -> Self {
        Self { kind: Cow::Borrowed("stranger"), id: 0, name: Arc::from(shown) }
    }

    /// Who asks.
    #[must_use]
    pub fn of(caller: &Caller) -> Self {
        // Of a person its own number: that of a caller is one for each organisation.
        let id = match caller.kind {
            CallerKind::Person => caller.signed_in.map_or(caller.id.0, |signed_in| signed_in.person.0),
            _ => caller.id.0,
        };
        Self { kind: Cow::Borrowed(caller.kind.name()), id, name: Arc::clone(&caller.name) }
    }
}

/// One thing that was done, or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// In which organisation; 0 for none.
    pub org: OrgId,
    /// What: the name of an [`AuditAction`].
    pub action: Cow<'static, str>,
    /// Who.
    pub actor: AuditActor,
    /// From where, if that is known.
    pub from: Option<IpAddr>,
    /// What came of it.
    pub outcome: AuditOutcome,
    /// How often, if several are told as one.
    pub count: u64,
    /// With which device: its number for applications, and its serial number.
    pub device: Option<(i64, String)>,
    /// With which thing: its kind, and what it is known by, such as `key 7`.
    pub object: String,
    /// What else is to be known, by name; each is cut at [`DETAIL_BYTES_MAX`]. Never a secret.
    pub details: Vec<(Cow<'static, str>, String)>,
}

impl AuditEntry {
    /// What a caller has done.
    #[must_use]
    pub fn of(caller: &Caller, action: AuditAction, object: impl Into<String>) -> Self {
        Self { from: caller.from, ..Self::by(AuditActor::of(caller), caller.org, action, object) }
    }

    /// What somebody has done in an organisation.
    #[must_use]
    pub fn by(actor: AuditActor, org: OrgId, action: AuditAction, object: impl Into<String>) -> Self {
        Self {
            org,
            action: Cow::Borrowed(action.name()),
            actor,
            from: None,
            outcome: AuditOutcome::Done,
            count: 1,
            device: None,
            object: object.into(),
            details: Vec::new(),
        }
    }

    /// With a device.
    #[must_use]
    pub fn device(self, device: &DeviceIdentity) -> Self {
        self.device_of(device.device_id.0, device.sn.as_str())
    }

    /// With a device, by its number and its serial number.
    #[must_use]
    pub fn device_of(mut self, id: i64, sn: &str) -> Self {
        self.device = Some((id, sn.to_owned()));
        self
    }

    /// With something else that is to be known; nothing of an empty text.
    #[must_use]
    pub fn detail(mut self, name: &'static str, text: &str) -> Self {
        if !text.is_empty() {
            self.details.push((Cow::Borrowed(name), cut(text)));
        }
        self
    }

    /// The same of JSON text, without the spaces between its parts.
    #[must_use]
    pub fn json(mut self, name: &'static str, text: &str) -> Self {
        self.details.push((Cow::Borrowed(name), entry::cut_json(text)));
        self
    }
}
