//! What a device, an application's key and an organisation may ask of the server: one budget for each, in
//! which everything that writes is weighed, whichever way it comes.
//!
//! | what | units | bytes |
//! | --- | --- | --- |
//! | event, gauge | 1, and 1 for each twin value | of its body |
//! | twin values without an event | 1 for each | of them |
//! | result | 1 if it brings nothing new | of its body |
//! | `ack`, `req` | 1 if they change nothing | |
//! | change of a session's subscriptions | 4 | |
//! | message that is refused | 1 | of its body |
//! | PINGREQ | 1/10 | |
//! | certificate that a device, or the holder of a claim, asks for | 20 | |
//! | task that an application makes | 2 | of its parameters |
//! | change of a twin by an application | 1, and 3 for each value | of its values |
//! | another write of an application | 1 | |
//!
//! The steps of a task that was asked for cost a device nothing but bytes: whoever made the task has paid.
//! What an application takes back, such as a task that it deletes, is weighed, and refused only while the store has no room.
//!
//! A budget has three buckets: units, bytes, and the bytes of a day. As long as something is left in each,
//! what comes is taken, however much it weighs; so the last may leave a debt, and what comes next waits
//! until that is paid. A device over a connection that this server reads is not read meanwhile
//! ([`crate::ForDevice::hold_us`]), for [`HOLD_MS_MAX`] in a row. What comes beyond that, or cannot be held,
//! is refused.

mod bucket;
mod calls;
mod meters;
mod weight;

pub use bucket::{HOLD_MS_MAX, REFUSED_HOLD_MS, RESUME_MS, Rate};
pub use weight::Weight;

use meters::Meters;

/// What one peer of a kind may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Work, in units.
    pub units: Rate,
    /// What is to be stored, in bytes.
    pub bytes: Rate,
    /// The same in a day, in bytes; 0 for as much as it likes.
    pub bytes_a_day: u64,
}

/// What each device, each API key and each organisation may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// A device.
    pub device: Allowance,
    /// An API key, or a certificate in place of one.
    pub key: Allowance,
    /// An organisation, with all its devices and keys.
    pub org: Allowance,
}

impl Allowance {
    /// The same with so much work and so many bytes a second, where they are given.
    pub(crate) fn with_rates(self, units: Option<u64>, bytes: Option<u64>) -> Self {
        Self {
            units: units.map_or(self.units, |per_second| rate(per_second, UNITS_BURST_S)),
            bytes: bytes.map_or(self.bytes, |per_second| rate(per_second, BYTES_BURST_S)),
            ..self
        }
    }
}

const KIB: u64 = 1_024;
const MIB: u64 = 1_024 * KIB;
const GIB: u64 = 1_024 * MIB;

/// How much work a second, in the long run: an event is one, and one for each value that it reports.
/// Limit for each device, set by `--events-per-second-max`: it is not read for a moment, then 0x97.
const DEVICE_UNITS_PER_SECOND: u64 = 200;
/// How much work at once, after a silence.
/// Limit for each device, set by `--events-per-second-max`: it is not read for a moment, then 0x97.
const DEVICE_UNITS_AT_ONCE: u64 = 10 * DEVICE_UNITS_PER_SECOND;
/// How much a second that is to be stored, in the long run, in bytes.
/// Limit for each device: it is not read for a moment, then 0x97.
const DEVICE_BYTES_PER_SECOND: u64 = 512 * KIB;
/// How much at once that is to be stored, after a silence, in bytes.
/// Limit for each device: it is not read for a moment, then 0x97.
const DEVICE_BYTES_AT_ONCE: u64 = 8 * MIB;
/// How much a day that is to be stored, in bytes.
/// Limit for each device, set by `--device-bytes-per-day-max`: it is not read for a moment, then 0x97.
const DEVICE_BYTES_PER_DAY: u64 = 4 * GIB;
/// How much work a second, in the long run: a task is two.
/// Limit for each key or certificate: 429.
const KEY_UNITS_PER_SECOND: u64 = 50_000;
/// How much a second that is to be stored, in the long run, in bytes.
/// Limit for each key or certificate, set by `--organisation-bytes-per-second-max`: 429.
const KEY_BYTES_PER_SECOND: u64 = ORG_BYTES_PER_SECOND / 2;
/// How much work a second, in the long run, of all devices and keys together.
/// Limit for each organisation: 429; devices are not read for a moment, then 0x97.
const ORG_UNITS_PER_SECOND: u64 = 100_000;
/// How much a second that is to be stored, in the long run, in bytes.
/// Limit for each organisation, set by `--organisation-bytes-per-second-max`: 429; devices are not read for a moment, then 0x97.
const ORG_BYTES_PER_SECOND: u64 = 32 * MIB;
/// How many seconds' worth of work may come at once, after a silence.
const UNITS_BURST_S: u64 = 10;
/// How many seconds' worth of bytes may come at once, after a silence.
const BYTES_BURST_S: u64 = 16;

/// A rate with so many seconds' worth of it at once.
const fn rate(per_second: u64, burst_s: u64) -> Rate {
    Rate { per_second, burst: per_second.saturating_mul(burst_s) }
}

impl Default for Budgets {
    /// A device that was offline brings what it has kept. A key and an organisation have more than a server
    /// of this size does, so that only what nobody wants is held back.
    fn default() -> Self {
        Self {
            device: Allowance {
                units: Rate { per_second: DEVICE_UNITS_PER_SECOND, burst: DEVICE_UNITS_AT_ONCE },
                bytes: Rate { per_second: DEVICE_BYTES_PER_SECOND, burst: DEVICE_BYTES_AT_ONCE },
                bytes_a_day: DEVICE_BYTES_PER_DAY,
            },
            key: Allowance {
                units: rate(KEY_UNITS_PER_SECOND, UNITS_BURST_S),
                bytes: rate(KEY_BYTES_PER_SECOND, BYTES_BURST_S),
                bytes_a_day: 0,
            },
            org: Allowance {
                units: rate(ORG_UNITS_PER_SECOND, UNITS_BURST_S),
                bytes: rate(ORG_BYTES_PER_SECOND, BYTES_BURST_S),
                bytes_a_day: 0,
            },
        }
    }
}

/// The budgets of all peers.
pub(crate) struct AllMeters {
    pub(crate) device: Meters,
    pub(crate) key: Meters,
    pub(crate) org: Meters,
}

impl AllMeters {
    /// Full budgets for all.
    pub(crate) fn new(budgets: &Budgets) -> Self {
        let Budgets { device, key, org } = budgets;
        Self { device: Meters::new(device), key: Meters::new(key), org: Meters::new(org) }
    }
}

impl Budgets {
    /// The same with so many units for a device.
    #[must_use]
    pub fn with_device_units(self, units: Rate) -> Self {
        Self { device: Allowance { units, ..self.device }, ..self }
    }

    /// The same with so many bytes a day for a device; 0 for as many as it likes, at once, too.
    #[must_use]
    pub fn with_device_bytes_a_day(self, bytes_a_day: u64) -> Self {
        let bytes = if bytes_a_day == 0 { Rate::NONE } else { self.device.bytes };
        Self { device: Allowance { bytes, bytes_a_day, ..self.device }, ..self }
    }

    /// The same with so many bytes a second for an organisation, and half as many for each of its keys; 0
    /// for as many as they like.
    #[must_use]
    pub fn with_org_bytes_per_second(self, per_second: u64) -> Self {
        Self {
            key: Allowance { bytes: rate(per_second.div_ceil(2), BYTES_BURST_S), ..self.key },
            org: Allowance { bytes: rate(per_second, BYTES_BURST_S), ..self.org },
            ..self
        }
    }

    /// No bounds at all, for what measures the server itself.
    #[must_use]
    pub const fn unbounded() -> Self {
        const NONE: Allowance = Allowance { units: Rate::NONE, bytes: Rate::NONE, bytes_a_day: 0 };
        Self { device: NONE, key: NONE, org: NONE }
    }
}
