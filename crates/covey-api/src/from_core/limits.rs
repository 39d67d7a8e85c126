//! Limits of an organisation's own, and of a key's own.

use covey_core::own_limits::{LimitName, OwnLimits};

use crate::{KeyLimits, OrgLimits, Whole};

fn to_core(limits: &[(LimitName, Option<Whole>)]) -> OwnLimits {
    limits.iter().fold(OwnLimits::default(), |own, (name, limit)| {
        // What is less than nothing is out of range as nothing is.
        own.with(*name, limit.map(|Whole(limit)| u64::try_from(limit).unwrap_or(0)))
    })
}

fn of(own: &OwnLimits, name: LimitName) -> Option<Whole> {
    own.of(name).map(|limit| Whole(i64::try_from(limit).unwrap_or(i64::MAX)))
}

impl OrgLimits {
    /// How limits look.
    #[must_use]
    pub fn of(own: &OwnLimits) -> Self {
        let of = |name| of(own, name);
        Self {
            requests_per_s: of(LimitName::RequestsPerS),
            requests: of(LimitName::Requests),
            waiting: of(LimitName::Waiting),
            streams: of(LimitName::Streams),
            work_per_s: of(LimitName::WorkPerS),
            bytes_per_s: of(LimitName::BytesPerS),
            kept_bytes: of(LimitName::KeptBytes),
            open_tasks: of(LimitName::OpenTasks),
        }
    }

    /// As the core has them.
    #[must_use]
    pub fn to_core(&self) -> OwnLimits {
        to_core(&[
            (LimitName::RequestsPerS, self.requests_per_s),
            (LimitName::Requests, self.requests),
            (LimitName::Waiting, self.waiting),
            (LimitName::Streams, self.streams),
            (LimitName::WorkPerS, self.work_per_s),
            (LimitName::BytesPerS, self.bytes_per_s),
            (LimitName::KeptBytes, self.kept_bytes),
            (LimitName::OpenTasks, self.open_tasks),
        ])
    }
}

impl KeyLimits {
    /// How limits look.
    #[must_use]
    pub fn of(own: &OwnLimits) -> Self {
        let OrgLimits { requests_per_s, requests, waiting, streams, work_per_s, bytes_per_s, .. } =
            OrgLimits::of(own);
        Self { requests_per_s, requests, waiting, streams, work_per_s, bytes_per_s }
    }

    /// As the core has them.
    #[must_use]
    pub fn to_core(&self) -> OwnLimits {
        let Self { requests_per_s, requests, waiting, streams, work_per_s, bytes_per_s } = *self;
        let none = OrgLimits::default();
        OrgLimits { requests_per_s, requests, waiting, streams, work_per_s, bytes_per_s, ..none }.to_core()
    }
}
