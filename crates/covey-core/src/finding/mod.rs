//! What is wrong around a server, as its operator is told of it: what was seen, and what to do.

mod board;

pub use board::Board;

use crate::access::{Caller, Rights};
use crate::id::{OrgId, UnixMs};
use crate::named::named;

/// How many findings one look tells of.
/// Limit for each look: further ones are left out, the less severe ones first.
pub const FINDINGS_MAX: usize = 100;
/// What a finding is about of which no more is told.
pub const WITHHELD: &str = "this server";
/// How old a look may be, in milliseconds; a server looks every few seconds.
/// Limit for each look: an older one is a finding, `look_stale`.
pub const LOOK_AGE_MS_MAX: i64 = 60_000;

named! {
    /// What is wrong. The names are stable: alerts and scripts go by them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum Code {
        /// A backup is older than it may be.
        BackupOld => "backup_old",
        /// There is no backup yet of a deployment that is not new.
        BackupMissing => "backup_missing",
        /// The issuing CA or the root ends soon, or is past its end.
        CaEnds => "ca_ends",
        /// The server's certificate ends soon, or is past its end.
        ServerCertificateEnds => "server_certificate_ends",
        /// The certificate with which the server speaks to a broker ends soon, or is past its end.
        LinkCertificateEnds => "link_certificate_ends",
        /// A certificate begins in the future: the clock is behind it.
        CertificateNotYetValid => "certificate_not_yet_valid",
        /// A certificate cannot be read.
        CertificateUnreadable => "certificate_unreadable",
        /// Two clocks do not show the same.
        ClockOffset => "clock_offset",
        /// Nobody keeps the clock of the machine right.
        ClockNotSynchronised => "clock_not_synchronised",
        /// The data directory is not there, or no server has used it.
        DataMissing => "data_missing",
        /// The disk has less room than must be left.
        DiskShort => "disk_short",
        /// The disk has no room.
        DiskFull => "disk_full",
        /// A secret or the data directory is open to other users.
        FileMode => "file_mode",
        /// A file or a folder cannot be looked at.
        FileUnreadable => "file_unreadable",
        /// Files of the CA are missing without which no server starts.
        KeysMissing => "keys_missing",
        /// The broker cannot be reached, or takes no messages.
        LinkDown => "link_down",
        /// Nobody has looked for a while, or a look does not end.
        LookStale => "look_stale",
        /// A running server was not asked what it sees.
        NotAsked => "not_asked",
        /// Another program has the port.
        PortTaken => "port_taken",
        /// An address cannot be listened on for another reason.
        PortUnusable => "port_unusable",
        /// A listener of a running server does not answer.
        PortUnreachable => "port_unreachable",
        /// A process holds the data directory and does not say yet where it listens.
        ServerStarting => "server_starting",
        /// A running server does not answer.
        ServerUnreachable => "server_unreachable",
        /// The database answers with errors, or is damaged.
        StoreFault => "store_fault",
        /// The database is not there.
        StoreMissing => "store_missing",
        /// The database may only be read.
        StoreReadOnly => "store_read_only",
        /// The database does not let the server do what it must.
        StoreRights => "store_rights",
        /// The database cannot be reached.
        StoreUnreachable => "store_unreachable",
        /// A webhook's receiver fails again and again.
        WebhookCircuitOpen => "webhook_circuit_open",
        /// Messages of a webhook were given up.
        WebhookDeadLetters => "webhook_dead_letters",
    }
}

named! {
    /// How much a finding matters.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum Severity {
        /// Something does not work, or a secret is open.
        Error => "error",
        /// Something will not work, unless somebody acts in time.
        Warning => "warning",
    }
}

/// Who is told more of a finding than its code and how much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Audience {
    /// Whoever has the right orgs:admin: it names files or addresses of the server.
    #[default]
    Operator,
    /// That organisation as well.
    Org(OrgId),
    /// Whoever may read measurements.
    Everyone,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: a file, a listener, a link, a webhook.
    pub about: String,
    /// What was seen.
    pub seen: String,
    /// What to type or do.
    pub remedy: String,
    /// Who is told all of that.
    pub audience: Audience,
}

impl Finding {
    /// Something that does not work.
    #[must_use]
    pub fn error(code: Code, about: impl ToString, seen: impl ToString, remedy: impl ToString) -> Self {
        Self::of(Severity::Error, code, about, seen, remedy)
    }

    /// Something that will not work.
    #[must_use]
    pub fn warning(code: Code, about: impl ToString, seen: impl ToString, remedy: impl ToString) -> Self {
        Self::of(Severity::Warning, code, about, seen, remedy)
    }

    /// Something that is as severe as that.
    #[must_use]
    pub fn of(
        severity: Severity,
        code: Code,
        about: impl ToString,
        seen: impl ToString,
        remedy: impl ToString,
    ) -> Self {
        let [about, seen, remedy] = [about.to_string(), seen.to_string(), remedy.to_string()];
        Self { code, severity, about, seen, remedy, audience: Audience::default() }
    }

    /// The same, told to others than the operator as well.
    #[must_use]
    pub fn told_to(self, audience: Audience) -> Self {
        Self { audience, ..self }
    }

    /// Whether a caller is told all of it.
    #[must_use]
    pub fn is_open_to(&self, caller: &Caller) -> bool {
        match self.audience {
            _ if caller.rights.contains(Rights::ORGS_ADMIN) => true,
            Audience::Operator => false,
            Audience::Org(org) => org == caller.org,
            Audience::Everyone => true,
        }
    }

    /// What is left of it for those who are not told all.
    fn withheld(&self) -> Self {
        let remedy = "ask with a key that has the right orgs:admin, or have the operator do so: covey doctor";
        let seen = "what was seen is told to keys with the right orgs:admin alone";
        Self::of(self.severity, self.code, WITHHELD, seen, remedy).told_to(Audience::Everyone)
    }
}

/// Findings as a caller is told of them: of those that are not for it no more than their code and how much each matters.
#[must_use]
pub fn told(findings: &[Finding], caller: &Caller) -> Vec<Finding> {
    let one = |finding: &Finding| match finding.is_open_to(caller) {
        true => finding.clone(),
        false => finding.withheld(),
    };
    sorted(findings.iter().map(one).collect())
}

/// A look that is so old, or was begun so long ago, that what it says may not hold any more.
#[must_use]
pub fn stale(about: impl ToString, age_ms: i64) -> Option<Finding> {
    let seen = format!("the server has not looked at itself for {} seconds", age_ms / 1_000);
    let remedy = "its disk or its database does not answer: see its log and that of the system (dmesg); then restart the server";
    (age_ms > LOOK_AGE_MS_MAX)
        .then(|| Finding::error(Code::LookStale, about, seen, remedy).told_to(Audience::Everyone))
}

/// What was measured on the way, for those who watch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measures {
    /// How many seconds are left of each certificate, by its name.
    pub certificates_left_s: Vec<(&'static str, i64)>,
    /// How far clocks are ahead of the server's, in seconds, by whose they are.
    pub clock_offsets_s: Vec<(&'static str, f64)>,
    /// How old the last backup is, in seconds.
    pub backup_age_s: Option<i64>,
    /// How much of the disk is free.
    pub disk_free_bytes: Option<u64>,
}

/// What one look found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// When it was looked, by the server's own clock.
    pub at: UnixMs,
    /// What is wrong, the most severe first, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// What was measured.
    pub measures: Measures,
}

impl Report {
    /// What a look at this instant found.
    #[must_use]
    pub fn new(at: UnixMs, findings: Vec<Finding>, measures: Measures) -> Self {
        Self { at, findings: sorted(findings), measures }
    }
}

/// Findings as they are told: the most severe first, none twice, and not too many.
#[must_use]
pub fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| (a.severity, a.code, &a.about).cmp(&(b.severity, b.code, &b.about)));
    findings.dedup_by(|a, b| (a.code, &a.about) == (b.code, &b.about));
    findings.truncate(FINDINGS_MAX);
    findings
}

/// How bad all of them are together; none if there are none.
#[must_use]
pub fn worst(findings: &[Finding]) -> Option<Severity> {
    findings.iter().map(|finding| finding.severity).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_severe_come_first_and_none_twice() {
        let warning = |about: &str| Finding::warning(Code::FileMode, about, "open", "close");
        let error = |about: &str| Finding::error(Code::StoreFault, about, "broken", "mend");
        let many = (0..2 * FINDINGS_MAX).map(|number| warning(&format!("{number:03}")));
        let told = sorted(many.chain([error("b"), error("a"), error("b")]).collect());
        assert_eq!(told.len(), FINDINGS_MAX);
        assert_eq!(told[..3], [error("a"), error("b"), warning("000")]);
        assert_eq!(
            (worst(&told), worst(&told[2..]), worst(&[])),
            (Some(Severity::Error), Some(Severity::Warning), None)
        );
    }

    #[test]
    fn each_is_told_what_is_for_it_and_of_the_rest_the_codes_alone() {
        let of = |code, about: &str, audience| Finding::warning(code, about, "seen", "do").told_to(audience);
        let all = [
            of(Code::FileMode, "/secret", Audience::Operator),
            of(Code::ClockOffset, "clocks", Audience::Everyone),
            of(Code::WebhookDeadLetters, "webhook 1", Audience::Org(OrgId(1))),
            of(Code::WebhookDeadLetters, "webhook 2", Audience::Org(OrgId(2))),
        ];
        let about = |rights| {
            let told = told(&all, &Caller::server(OrgId(1), "x", rights));
            told.into_iter().map(|one| (one.code, one.about)).collect::<Vec<_>>()
        };
        let is = |code, about: &str| (code, about.to_owned());
        assert_eq!(
            about(Rights::METRICS_READ),
            [
                is(Code::ClockOffset, "clocks"),
                is(Code::FileMode, WITHHELD),
                is(Code::WebhookDeadLetters, WITHHELD),
                is(Code::WebhookDeadLetters, "webhook 1"),
            ]
        );
        let known = about(Rights(Rights::METRICS_READ.0 | Rights::ORGS_ADMIN.0));
        assert!(known.len() == 4 && known.iter().all(|(_, about)| about != WITHHELD), "{known:?}");
    }

    #[test]
    fn a_look_is_stale_after_a_minute() {
        assert_eq!(stale("x", LOOK_AGE_MS_MAX), None);
        let found = stale("x", LOOK_AGE_MS_MAX + 1);
        assert_eq!(found.map(|one| (one.code, one.severity)), Some((Code::LookStale, Severity::Error)));
        assert_eq!(stale("x", i64::MIN), None, "a clock that was set back");
    }
}
