//! What operations and the server ask the store of what is kept.

use crate::id::{DeviceKey, OrgId, RecordNumber, UnixMs};
use crate::port::{Found, TxResult};
use crate::quota::{DayKept, FirstDays, PARTS_ALL};
use crate::retention::RetentionClass;

/// The steps on what is kept inside a transaction.
pub trait QuotaSteps {
    /// Adds to what devices and organisations have stored in days. At most some thousands.
    fn kept_add(&mut self, of_devices: &[(DeviceKey, DayKept)], of_orgs: &[(OrgId, DayKept)])
    -> TxResult<()>;

    /// Notes the place of this step among the records of this server: those before it are counted in memory when
    /// the transaction is committed, and the store is about to be told so, part by part.
    fn kept_mark(&mut self) -> TxResult<()>;

    /// Notes that the store was told of the parts before `to`, if it had been told of those before `from`;
    /// answers whether it had.
    fn kept_advance(&mut self, from: u8, to: u8) -> TxResult<bool>;

    /// How far was counted what a server has stored that has ended; held until the end of the transaction. None if
    /// there is nothing to count, or somebody else is about to.
    fn kept_counted(&mut self, left: LeftBehind) -> TxResult<Option<Counted>>;

    /// Records after this one, so many at most, in their order.
    fn kept_uncounted(
        &mut self,
        left: LeftBehind,
        after: RecordNumber,
        limit: u32,
    ) -> TxResult<Vec<Uncounted>>;

    /// Notes how far is counted; none for all.
    fn kept_counted_put(&mut self, left: LeftBehind, counted: Option<Counted>) -> TxResult<()>;

    /// This server stops, and has told the store of everything.
    fn kept_leave(&mut self) -> TxResult<()>;

    /// Forgets what these organisations have stored of a class in a day: so many rows of their devices at most, whose
    /// number it answers, and those of the organisations once there are no more of these.
    fn kept_forget_of_every_org(
        &mut self,
        class: RetentionClass,
        day: i64,
        orgs: &[OrgId],
        limit: u32,
    ) -> TxResult<u64>;
}

/// A server that has ended, and may not have written all that it had counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// Its number, where several write.
    pub writer: i32,
    /// The last record that it can have written.
    pub until: RecordNumber,
}

/// Up to which records the store knows what was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Up to this one of all parts.
    pub counted: RecordNumber,
    /// Up to this one of those that were written last.
    pub marked: RecordNumber,
    /// How many those are.
    pub parts: u8,
}

impl Counted {
    /// Up to which record a part is counted.
    #[must_use]
    pub fn of(self, part: u8) -> RecordNumber {
        if part < self.parts { self.marked } else { self.counted }
    }

    /// Up to which record all parts are.
    #[must_use]
    pub fn of_all(self) -> RecordNumber {
        self.of(PARTS_ALL - 1)
    }
}

/// A record, and what was stored with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncounted {
    /// Its number.
    pub number: RecordNumber,
    /// Of whom.
    pub org: OrgId,
    /// Of which device.
    pub device: DeviceKey,
    /// When.
    pub at: UnixMs,
    /// What was stored; none of a record with which nothing was, or that another server has written.
    pub class: Option<RetentionClass>,
    /// How many bytes, with those of a row.
    pub bytes: i64,
}

/// What an organisation has stored in a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrgDay {
    /// The organisation.
    pub org: OrgId,
    /// Its name.
    pub name: String,
    /// What; none for messages of webhooks, which are kept now.
    pub class: Option<RetentionClass>,
    /// Days since the Unix epoch.
    pub day: i64,
    /// How many bytes; fewer than none where more was taken back than was counted.
    pub bytes: i64,
}

/// The reads of what is kept.
pub trait QuotaReader {
    /// How many bytes each of these devices has stored since the first days; of a day never fewer than none.
    fn kept_of_devices_of_every_org(&self, wanted: Vec<(DeviceKey, FirstDays)>) -> Found<'_, Vec<i64>>;

    /// What organisations have stored.
    fn kept_of_orgs_of_every_org(&self) -> Found<'_, Vec<OrgDay>>;

    /// Servers that have ended, of which it was not looked yet whether all was counted.
    fn kept_left_of_every_org(&self) -> Found<'_, Vec<LeftBehind>>;
}
