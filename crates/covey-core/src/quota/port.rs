//! What operations and the server ask the store of what is kept.

use crate::id::{DeviceKey, OrgId};
use crate::port::{Found, TxResult};
use crate::quota::{DayKept, FirstDays};
use crate::retention::RetentionClass;

/// The steps on what is kept inside a transaction.
pub trait QuotaSteps {
    /// Adds to what devices and organisations have stored in days. At most a few hundred.
    fn kept_add(&mut self, of_devices: &[(DeviceKey, DayKept)], of_orgs: &[(OrgId, DayKept)])
    -> TxResult<()>;

    /// Forgets days of a class that are over for everybody; answers how many rows went.
    fn kept_forget_of_every_org(
        &mut self,
        class: RetentionClass,
        before_day: i64,
        limit: u32,
    ) -> TxResult<u64>;
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
    /// How many bytes.
    pub bytes: i64,
}

/// The reads of what is kept.
pub trait QuotaReader {
    /// How many bytes each of these devices has stored since the first days.
    fn kept_of_devices_of_every_org(&self, wanted: Vec<(DeviceKey, FirstDays)>) -> Found<'_, Vec<i64>>;

    /// What organisations have stored.
    fn kept_of_orgs_of_every_org(&self) -> Found<'_, Vec<OrgDay>>;
}
