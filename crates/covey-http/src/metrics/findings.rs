//! What is wrong around the server, and what was measured in looking for it.

use std::sync::atomic::AtomicU64;

use covey_core::finding::{Code, LOOK_AGE_MS_MAX, Report, Severity};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    code: &'static str,
    severity: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateName {
    certificate: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClockName {
    clock: &'static str,
}

type Real = Gauge<f64, AtomicU64>;

/// One line for each kind of finding, and one for each measurement: not a number (NaN) while it is not known, which no
/// alert takes for anything.
#[derive(Default)]
pub(super) struct Findings {
    findings: Family<Kind, Gauge>,
    certificates: Family<CertificateName, Real>,
    clocks: Family<ClockName, Real>,
    backup_age: Real,
    disk_free: Real,
    looked_ago: Real,
}

impl Findings {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "covey_finding",
            "Findings of the server about itself, by what it is",
            self.findings.clone(),
        );
        let left = self.certificates.clone();
        r.register_with_unit(
            "covey_certificate_left",
            "How long a certificate is valid yet",
            Unit::Seconds,
            left,
        );
        let clocks = self.clocks.clone();
        r.register_with_unit(
            "covey_clock_ahead",
            "How far another clock is ahead of the server's",
            Unit::Seconds,
            clocks,
        );
        let age = self.backup_age.clone();
        r.register_with_unit("covey_backup_age", "How old the last backup is", Unit::Seconds, age);
        let free = self.disk_free.clone();
        r.register_with_unit(
            "covey_disk_free",
            "What is free on the disk of the data directory",
            Unit::Bytes,
            free,
        );
        let ago = self.looked_ago.clone();
        r.register_with_unit(
            "covey_finding_age",
            "How long ago the server looked at itself",
            Unit::Seconds,
            ago,
        );
        self.backup_age.set(f64::NAN);
        self.disk_free.set(f64::NAN);
        self.looked_ago.set(f64::NAN);
        // Each has a line from the start, so that an alert sees it come and go.
        for (_, code) in Code::NAMES {
            for (_, severity) in Severity::NAMES {
                self.findings.get_or_create(&Kind { code, severity }).set(0);
            }
        }
    }

    /// Takes note of how many milliseconds ago it was looked.
    #[allow(clippy::cast_precision_loss)] // far below 2^53 milliseconds
    pub(super) fn set_age(&self, age_ms: i64) {
        let kind = Kind { code: Code::LookStale.name(), severity: Severity::Error.name() };
        self.findings.get_or_create(&kind).set(i64::from(age_ms > LOOK_AGE_MS_MAX));
        self.looked_ago.set(age_ms as f64 / 1_000.0);
    }

    /// Takes note of what a look found.
    #[allow(clippy::cast_precision_loss)] // far below 2^53 seconds; of bytes it is exact enough
    pub(super) fn set(&self, report: &Report) {
        for (code, code_name) in Code::NAMES {
            for (severity, severity_name) in Severity::NAMES {
                let found = report.findings.iter().filter(|one| (one.code, one.severity) == (code, severity));
                let kind = Kind { code: code_name, severity: severity_name };
                self.findings.get_or_create(&kind).set(i64::try_from(found.count()).unwrap_or(i64::MAX));
            }
        }
        let measures = &report.measures;
        self.certificates.clear();
        for (certificate, left_s) in &measures.certificates_left_s {
            self.certificates.get_or_create(&CertificateName { certificate }).set(*left_s as f64);
        }
        self.clocks.clear();
        for (clock, ahead_s) in &measures.clock_offsets_s {
            self.clocks.get_or_create(&ClockName { clock }).set(*ahead_s);
        }
        self.backup_age.set(measures.backup_age_s.map_or(f64::NAN, |age_s| age_s as f64));
        self.disk_free.set(measures.disk_free_bytes.map_or(f64::NAN, |bytes| bytes as f64));
    }
}

#[cfg(test)]
mod tests {
    use covey_core::finding::Measures;
    use covey_core::id::UnixMs;

    use super::*;

    #[test]
    fn what_is_not_known_is_no_number_and_a_look_that_is_too_old_is_a_finding() {
        let findings = Findings::default();
        findings.register(&mut Registry::default());
        assert!(findings.disk_free.get().is_nan() && findings.looked_ago.get().is_nan());
        let measures = |disk_free_bytes| Measures { disk_free_bytes, ..Measures::default() };
        findings.set(&Report::new(UnixMs(0), Vec::new(), measures(Some(7))));
        assert!((findings.disk_free.get() - 7.0).abs() < f64::EPSILON);
        findings.set(&Report::new(UnixMs(0), Vec::new(), measures(None)));
        assert!(findings.disk_free.get().is_nan(), "it is not a full disk");
        let stale = Kind { code: "look_stale", severity: "error" };
        findings.set_age(LOOK_AGE_MS_MAX);
        assert_eq!(findings.findings.get_or_create(&stale).get(), 0);
        findings.set_age(LOOK_AGE_MS_MAX + 1);
        assert_eq!(findings.findings.get_or_create(&stale).get(), 1);
    }
}
