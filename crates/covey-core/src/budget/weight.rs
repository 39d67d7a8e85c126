//! What things weigh. The table is in the [module above](super).

/// A thousandth of a unit is the smallest weight.
pub(super) const UNIT: u64 = 1_000;

/// What something weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// In thousandths of a unit.
    pub(super) milliunits: u64,
    pub(super) bytes: u64,
}

impl Weight {
    /// A change of what is kept of a session, which is a commit of its own.
    pub const SESSION: Self = Self::units(4);
    /// A step that changed nothing.
    pub const IDLE_STEP: Self = Self::units(1);
    /// A packet that keeps a connection alive.
    pub const PING: Self = Self { milliunits: UNIT / 10, bytes: 0 };
    /// A write of an application that has no weight of its own.
    pub const WRITE: Self = Self::units(1);

    /// A certificate that is asked for by another one: a signature to check, one to make, and a commit.
    pub const CERTIFICATE: Self = Self::units(20);

    const fn units(units: u64) -> Self {
        Self { milliunits: units * UNIT, bytes: 0 }
    }

    const fn of(units: usize, bytes: usize) -> Self {
        // Both are bounded by the size of a message.
        Self { milliunits: units as u64 * UNIT, bytes: bytes as u64 }
    }

    /// An event or a gauge with a body of so many bytes, that reports so many values.
    #[must_use]
    pub const fn event(bytes: usize, values: usize) -> Self {
        Self::of(1 + values, bytes)
    }

    /// So many values of so many bytes that a device reports without an event.
    #[must_use]
    pub const fn report(bytes: usize, values: usize) -> Self {
        Self::of(values, bytes)
    }

    /// A result with a body of so many bytes.
    #[must_use]
    pub const fn result(bytes: usize) -> Self {
        Self::of(0, bytes)
    }

    /// A message of so many bytes that is refused.
    #[must_use]
    pub const fn refused(bytes: usize) -> Self {
        Self::of(1, bytes)
    }

    /// A task with parameters of so many bytes.
    #[must_use]
    pub const fn task(bytes: usize) -> Self {
        Self::of(2, bytes)
    }

    /// A change of so many values of a twin, of so many bytes.
    #[must_use]
    pub const fn twin(values: usize, bytes: usize) -> Self {
        Self::of(1 + 3 * values, bytes)
    }
}
