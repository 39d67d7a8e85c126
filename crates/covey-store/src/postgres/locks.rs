//! The advisory locks that servers on one database share (PostgreSQL "Advisory
//! Locks"). A lock of a session is free as soon as that session has ended, in
//! whichever way.

/// Which kind of thing a lock with two numbers is for.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(crate) enum LockClass {
    /// Migrations: one server at a time.
    Migrations = 0x436f_7601,
    /// Making and dropping partitions: one server at a time.
    Partitions = 0x436f_7602,
    /// A server's name, by its number in `servers`.
    Server = 0x436f_7603,
    /// A writer, by its number in `writers`.
    Writer = 0x436f_7604,
    /// A slot of `task_counts`, by its number.
    Slot = 0x436f_7605,
    /// Making the first key.
    FirstKey = 0x436f_7606,
    /// Moving a site into the database (`crate::migrate`): one at a time.
    StoreMigration = 0x436f_7607,
    /// Giving a device of an organisation its number, by the number of the organisation.
    DeviceId = 0x436f_7608,
    /// Setting the offset of the numbers of records.
    RecordOffset = 0x436f_7609,
    /// Forgetting what is too old, by the number of what: one server at a time.
    Retention = 0x436f_760a,
    /// Which webhooks an organisation has, by the number of the organisation.
    Webhooks = 0x436f_760b,
    /// Counting devices of days that are over: one server at a time.
    Usage = 0x436f_760d,
    /// Making the first person.
    FirstPerson = 0x436f_760c,
}

impl LockClass {
    pub(crate) const fn number(self) -> i32 {
        self as i32
    }
}

/// The number under which an idempotency key is locked (64-bit FNV-1a). Two
/// keys that share one wait for each other, no more.
pub(super) fn of_idempotency_key(org: i64, key: &str) -> i64 {
    let bytes = org.to_le_bytes().into_iter().chain(key.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    i64::from_ne_bytes(hash.to_ne_bytes())
}
