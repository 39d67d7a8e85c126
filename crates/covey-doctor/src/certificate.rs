//! Certificates whose end is near, or whose begin is not there yet.

use std::path::PathBuf;

use covey_core::finding::{Code, Finding, Severity};

use crate::words::{self, DAY_S};

/// With how many days left a certificate that renews itself should have been renewed long ago.
pub const LEAF_DAYS_MIN: i64 = 7;
/// With how many days left of a CA its successor is to be planned, and with how many it is late.
pub const CA_DAYS_MIN: i64 = 90;
/// The same, when devices and servers are about to get shorter certificates.
pub const CA_DAYS_LATE: i64 = 30;

/// Which certificate it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The root.
    Root,
    /// The CA that signs what servers and devices have.
    Issuing,
    /// A CA of others, under which devices were registered.
    Imported,
    /// The server's own.
    Server,
    /// That with which the server speaks to a broker.
    Link,
}

impl Kind {
    /// Its name, as measurements have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
            Self::Imported => "imported",
            Self::Server => "server",
            Self::Link => "link",
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::Root | Self::Issuing | Self::Imported => Code::CaEnds,
            Self::Server => Code::ServerCertificateEnds,
            Self::Link => Code::LinkCertificateEnds,
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Root => {
                "plan a new root, with which every device is registered anew: docs/operating.md, \"Replacing the root\""
            }
            Self::Issuing => {
                "replace it with the key of the root: docs/revocation.md, \"Another issuing CA in the place of the one that is there\""
            }
            Self::Imported => {
                "register its devices anew before that (docs/revocation.md, \"A CA of others, while a fleet moves\"); when \
                 all are, remove it with the name that its file has after imported-, and start the server again"
            }
            Self::Server => {
                "restart the server, which makes itself a new one; if it does not, its log says why (it writes to this folder)"
            }
            Self::Link => {
                "restart the server, which makes itself a new one, or renew the one of --link-certificate"
            }
        }
    }
}

/// From when to when a certificate is valid, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    /// Its begin.
    pub not_before_s: i64,
    /// Its end.
    pub not_after_s: i64,
}

/// A certificate, as it was found.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Which it is.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
    /// Its dates, or why they cannot be read.
    pub dates: Result<Dates, String>,
}

/// What is wrong with certificates at `now_s`.
#[must_use]
pub fn findings(certificates: &[Certificate], now_s: i64) -> Vec<Finding> {
    certificates.iter().filter_map(|one| finding(one, now_s)).collect()
}

/// How many seconds are left of each kind: of several that of the one that ends first.
#[must_use]
pub fn left_s(certificates: &[Certificate], now_s: i64) -> Vec<(&'static str, i64)> {
    let left = |one: &Certificate| {
        Some((one.kind.name(), one.dates.as_ref().ok()?.not_after_s.saturating_sub(now_s)))
    };
    let mut all: Vec<_> = certificates.iter().filter_map(left).collect();
    all.sort_unstable();
    all.dedup_by_key(|(name, _)| *name);
    all
}

fn finding(certificate: &Certificate, now_s: i64) -> Option<Finding> {
    let Certificate { kind, path, dates } = certificate;
    let about = path.display();
    let dates = match dates {
        Ok(dates) => dates,
        Err(problem) => {
            let remedy = "put the file back from a backup (covey restore), or give whoever runs this the right to read it";
            return Some(Finding::error(Code::CertificateUnreadable, about, problem, remedy));
        }
    };
    if now_s < dates.not_before_s {
        let behind = words::length(dates.not_before_s.saturating_sub(now_s));
        let seen = format!(
            "it begins at {}, {behind} after what the clock shows",
            words::instant(dates.not_before_s)
        );
        let remedy = "set the clock of this machine: timedatectl set-ntp true; then restart the server";
        return Some(Finding::error(Code::CertificateNotYetValid, about, seen, remedy));
    }
    let left_s = dates.not_after_s.saturating_sub(now_s);
    let severity = severity(*kind, *dates, left_s)?;
    let end = words::instant(dates.not_after_s);
    let seen = match left_s {
        ..=0 => format!("it ended at {end}, {} ago by the clock of this machine", words::length(left_s)),
        _ => format!("it ends at {end}, in {}", words::length(left_s)),
    };
    let remedy = match (left_s, path.parent()) {
        (..=0, _) => format!("see that the clock is right (date -u); if it is: {}", kind.remedy()),
        (_, Some(folder)) if *kind == Kind::Server => {
            format!("{}: ls -ld {}", kind.remedy(), words::path(folder))
        }
        (_, Some(folder)) if *kind == Kind::Imported => {
            format!("{}: covey ca remove NAME --pki {}", kind.remedy(), words::path(folder))
        }
        _ => kind.remedy().to_owned(),
    };
    Some(Finding::of(severity, kind.code(), about, seen, remedy))
}

/// How much it matters that so little is left of a certificate; nothing while it is enough.
fn severity(kind: Kind, dates: Dates, left_s: i64) -> Option<Severity> {
    let life_s = dates.not_after_s.saturating_sub(dates.not_before_s);
    let is_near = left_s < CA_DAYS_MIN * DAY_S || left_s < life_s / 10;
    let (warned, is_late) = match kind {
        Kind::Root | Kind::Issuing => (is_near, left_s < CA_DAYS_LATE * DAY_S),
        // Its devices may have moved already: nobody is told of an error that may be none.
        Kind::Imported => return is_near.then_some(Severity::Warning),
        // A third is left when the server renews it: with less, it could not.
        Kind::Server | Kind::Link => (left_s <= LEAF_DAYS_MIN * DAY_S, left_s < life_s / 4),
    };
    match (left_s <= 0, warned, is_late) {
        (true, ..) | (_, true, true) => Some(Severity::Error),
        (_, true, false) => Some(Severity::Warning),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn with(kind: Kind, life_days: i64, left_s: i64) -> Option<Finding> {
        let dates = Dates { not_before_s: 0, not_after_s: life_days * DAY_S };
        let certificate = Certificate { kind, path: "pki/a.pem".into(), dates: Ok(dates) };
        finding(&certificate, dates.not_after_s - left_s)
    }

    #[test]
    fn a_certificate_is_told_of_in_time_and_as_an_error_when_it_is_late() {
        let found = |kind, life, left_s| with(kind, life, left_s).map(|found| (found.code, found.severity));
        let (warning, error) = (Severity::Warning, Severity::Error);
        for (kind, life_days, left_s, expected) in [
            (Kind::Server, 397, 8 * DAY_S, None),
            (Kind::Server, 397, 7 * DAY_S + 1, None),
            (Kind::Server, 397, 7 * DAY_S, Some((Code::ServerCertificateEnds, error))),
            (Kind::Server, 7, 7 * DAY_S, Some((Code::ServerCertificateEnds, warning))),
            (Kind::Server, 7, 0, Some((Code::ServerCertificateEnds, error))),
            (Kind::Link, 397, DAY_S, Some((Code::LinkCertificateEnds, error))),
            (Kind::Issuing, 3652, 366 * DAY_S, None),
            (Kind::Issuing, 3652, 365 * DAY_S, Some((Code::CaEnds, warning))),
            (Kind::Issuing, 180, 89 * DAY_S, Some((Code::CaEnds, warning))),
            (Kind::Issuing, 20, 20 * DAY_S, Some((Code::CaEnds, error))),
            (Kind::Root, 7305, 29 * DAY_S, Some((Code::CaEnds, error))),
            (Kind::Imported, 365, 90 * DAY_S, None),
            (Kind::Imported, 365, 89 * DAY_S, Some((Code::CaEnds, warning))),
            (Kind::Imported, 365, -DAY_S, Some((Code::CaEnds, warning))),
        ] {
            assert_eq!(found(kind, life_days, left_s), expected, "{kind:?} {life_days} {left_s}");
        }
    }

    #[test]
    fn a_clock_behind_a_certificate_and_a_file_that_is_none_are_told_of() {
        let dates = Dates { not_before_s: 2 * DAY_S, not_after_s: 400 * DAY_S };
        let one = |dates| Certificate { kind: Kind::Issuing, path: "i.pem".into(), dates };
        let found = finding(&one(Ok(dates)), 0).unwrap();
        assert_eq!(found.code, Code::CertificateNotYetValid);
        assert!(found.seen.contains("1970-01-03 00:00 UTC, 2 days after"), "{}", found.seen);
        let found = finding(&one(Err("no certificate".to_owned())), 0).unwrap();
        assert_eq!((found.code, found.seen.as_str()), (Code::CertificateUnreadable, "no certificate"));
    }

    #[test]
    fn of_several_of_a_kind_the_one_that_ends_first_is_measured() {
        let one = |kind, not_after_s| {
            let dates = Ok(Dates { not_before_s: 0, not_after_s });
            Certificate { kind, path: "a.pem".into(), dates }
        };
        let all = [one(Kind::Imported, 9), one(Kind::Root, 7), one(Kind::Imported, 5)];
        assert_eq!(left_s(&all, 1), [("imported", 4), ("root", 6)]);
    }

    proptest! {
        #[test]
        fn less_time_is_never_less_severe(life_days in 1_i64..10_000, left_s in 0_i64..864_000_000, less_s in 0_i64..864_000_000) {
            for kind in [Kind::Root, Kind::Issuing, Kind::Imported, Kind::Server, Kind::Link] {
                let life_s = life_days * DAY_S;
                let (left_s, less_s) = (left_s.min(life_s), less_s.min(life_s).min(left_s));
                let rank = |left_s| with(kind, life_days, left_s).map_or(2, |found| found.severity as u8);
                prop_assert!(rank(less_s) <= rank(left_s));
            }
        }
    }
}
