//! Partitions, made ahead: of final tasks and results, one for each month of the
//! tasks' making; of events, one for each month of the devices' time; of the
//! outbox, one for each day.
//!
//! Months, not weeks: PostgreSQL before version 18 locks every partition
//! whenever a statement that names the whole table is run from a kept plan, so
//! few are better; and a bound on age in months or years needs no finer steps.
//! The outbox is kept for days.

use std::time::Duration;

use covey_core::id::UnixMs;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::postgres::locks::LockClass;
use crate::postgres::options::said;

/// How many months are prepared beyond the present one.
const MONTHS_AHEAD: i64 = 2;
/// How many before it, for events that devices have kept while they were offline.
const EVENT_MONTHS_BEHIND: i64 = 1;
/// How many days are prepared beyond the present one.
const DAYS_AHEAD: i64 = 3;
const DAY_MS: i64 = 86_400_000;
/// How long a table is waited for that others use, in milliseconds; about how
/// long writers then wait, too.
pub(super) const LOCK_TIMEOUT_MS: u32 = 100;
/// How often a table is tried to be had.
pub(super) const ATTEMPTS_MAX: u32 = 5;
/// The pause before each further attempt.
pub(super) const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);
/// How many rows that came before their partition move into it while everyone
/// waits. With more of them it is not made, and they stay where they are.
const MOVED_ROWS_MAX: u32 = 20_000;
/// The tables that are partitioned alike.
pub(super) const TABLES: [&str; 2] = ["tasks_done", "results"];

/// A month, counted from January of the year 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Month(i64);

impl Month {
    /// The month of an instant, in UTC ("days from civil", proleptic Gregorian).
    pub(crate) fn of(at: UnixMs) -> Self {
        let days = at.0.div_euclid(86_400_000) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Counted from March, so that the day that some years have comes last.
        let month = (5 * day_of_year + 2) / 153;
        let year = era * 400 + year_of_era;
        Self(year * 12 + month + 2)
    }

    pub(crate) const fn plus(self, months: i64) -> Self {
        Self(self.0 + months)
    }

    /// The instant at which it begins.
    pub(crate) fn begin(self) -> UnixMs {
        let from_march = self.0 - 2;
        let (year, month) = (from_march.div_euclid(12), from_march.rem_euclid(12));
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * month + 2) / 5;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        UnixMs((era * 146_097 + day_of_era - 719_468) * 86_400_000)
    }

    /// The month of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (year, month) = name.split_once('_')?;
        let (year, month): (i64, i64) = (year.parse().ok()?, month.parse().ok()?);
        (1..=12).contains(&month).then(|| Self(year * 12 + month - 1))
    }

    /// As `2026_11`.
    pub(super) fn name(self) -> String {
        format!("{:04}_{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

/// The smallest id of a task made at this instant (RFC 9562 §5.7: the first 48
/// bits are milliseconds).
pub(crate) fn id_from(at: UnixMs) -> Uuid {
    let ms = u128::try_from(at.0.clamp(0, (1 << 48) - 1)).unwrap_or(0);
    Uuid::from_u128(ms << 80)
}

/// A day, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(i64);

impl Day {
    /// The day of an instant, in UTC.
    pub(crate) fn of(at: UnixMs) -> Self {
        Self(at.0.div_euclid(DAY_MS))
    }

    pub(crate) const fn plus(self, days: i64) -> Self {
        Self(self.0 + days)
    }

    /// The instant at which it begins.
    pub(crate) const fn begin(self) -> UnixMs {
        UnixMs(self.0 * DAY_MS)
    }

    /// The day of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (month, day_of_month) = name.rsplit_once('_')?;
        let day_of_month: u8 = day_of_month.parse().ok()?;
        let day = Self::of(Month::named(month)?.begin()).plus(i64::from(day_of_month) - 1);
        (day.name() == name).then_some(day)
    }

    /// As `2026_11_05`.
    fn name(self) -> String {
        let month = Month::of(self.begin());
        let day_of_month = self.begin().since_ms(month.begin()) / DAY_MS + 1;
        format!("{}_{day_of_month:02}", month.name())
    }
}

/// A part of a table, from one value of a column to before another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    table: &'static str,
    column: &'static str,
    name: String,
    begin: UnixMs,
    from: String,
    to: String,
}

impl Partition {
    /// Those of final tasks and of their results.
    pub(crate) fn of_tasks(month: Month) -> [Self; 2] {
        let [from, to] = [month, month.plus(1)].map(|month| id_from(month.begin()).to_string());
        let [tasks, results] = TABLES;
        [(tasks, "id"), (results, "task_id")].map(|(table, column)| {
            let name = format!("{table}_{}", month.name());
            Self { table, column, name, begin: month.begin(), from: from.clone(), to: to.clone() }
        })
    }

    /// That of events.
    pub(crate) fn of_events(month: Month) -> Self {
        let (table, column) = ("events", "dev_timestamp");
        let [from, to] = [month, month.plus(1)].map(|month| month.begin().0.to_string());
        Self { table, column, name: format!("{table}_{}", month.name()), begin: month.begin(), from, to }
    }

    /// That of the outbox.
    pub(crate) fn of_records(day: Day) -> Self {
        let [from, to] = [day, day.plus(1)].map(|day| day.begin().0.to_string());
        let name = format!("records_{}", day.name());
        Self { table: "records", column: "at", name, begin: day.begin(), from, to }
    }

    /// Makes it, unless it is there.
    pub(crate) async fn ensure(&self, client: &Client, now: UnixMs) -> Result<(), Error> {
        let name = format!("public.{}", self.name);
        let row = client.query_one("SELECT to_regclass($1::text) IS NOT NULL", &[&name]).await?;
        if row.try_get(0)? { Ok(()) } else { self.make(client, now).await }
    }

    /// Makes it, again if somebody else needs the table just now.
    async fn make(&self, client: &Client, now: UnixMs) -> Result<(), Error> {
        let mut made = self.attempt(client, now).await;
        for _ in 1..ATTEMPTS_MAX {
            if !matches!(&made, Err(error) if is_in_the_way(error)) {
                break;
            }
            sleep(ATTEMPT_PAUSE).await;
            made = self.attempt(client, now).await;
        }
        made
    }

    /// Attaching takes a weaker lock of the whole table than making the partition
    /// in place would. Rows that came before it, because nobody had made it in
    /// time, move in. The partition that they are in is locked before the first of
    /// them moves: whoever writes one more meanwhile would make the attaching fail.
    ///
    /// PostgreSQL chooses a statement's partitions when it plans it, and what the
    /// statement sees only when it begins to run. One that is planned before the
    /// partition is attached, and then waits for the one that rows move from, would
    /// see them nowhere. So a partition that has rows, or whose time has come, is
    /// attached while nobody uses the table.
    async fn attempt(&self, client: &Client, now: UnixMs) -> Result<(), Error> {
        let Self { table, column, name, begin, from, to } = self;
        let class = LockClass::Partitions.number();
        let early = format!("{table}_default WHERE {column} >= '{from}' AND {column} < '{to}'");
        let is_late = *begin <= now;
        let sql = format!(
            "BEGIN; SELECT pg_advisory_xact_lock({class}, 0); SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; \
             CREATE TABLE IF NOT EXISTS {name} (LIKE {table} INCLUDING ALL); \
             DO $$ DECLARE alone boolean := {is_late} OR EXISTS (SELECT 1 FROM {early}); \
             BEGIN IF NOT EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = 'public.{name}'::regclass) THEN \
             IF (SELECT count(*) > {MOVED_ROWS_MAX} FROM (SELECT 1 FROM {early} LIMIT {MOVED_ROWS_MAX} + 1) AS early) THEN \
             RAISE program_limit_exceeded USING MESSAGE = \
             'more than {MOVED_ROWS_MAX} rows came before {name}; they stay in {table}_default'; END IF; \
             IF alone THEN LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE; \
             ELSE LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE; END IF; \
             LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE; \
             IF NOT alone AND EXISTS (SELECT 1 FROM {early}) THEN \
             RAISE lock_not_available USING MESSAGE = 'rows came while {name} was made'; END IF; \
             WITH moved AS (DELETE FROM {early} RETURNING *) INSERT INTO {name} SELECT * FROM moved; \
             ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{to}'); \
             END IF; END $$; COMMIT"
        );
        let made = client.batch_execute(&sql).await;
        if made.is_err() {
            // What was begun is undone; should even that fail, the connection is of no use to anyone.
            let _ = client.batch_execute("ROLLBACK").await;
        }
        made
    }
}

/// Whether somebody else held what was needed, or it took too long.
pub(super) fn is_in_the_way(error: &Error) -> bool {
    let codes = [&SqlState::LOCK_NOT_AVAILABLE, &SqlState::T_R_DEADLOCK_DETECTED, &SqlState::QUERY_CANCELED];
    error.code().is_some_and(|code| codes.contains(&code))
}

/// Makes the partitions of now and of the time to come, as far as they are
/// missing. Of several servers one does it, and the others go on. Rows for which
/// there is none have a place of their own, so one that cannot be made is left for
/// the next time.
///
/// # Errors
/// A connection that is gone.
pub(super) async fn make_ahead(client: &Client, now: UnixMs) -> Result<(), Error> {
    let months = |from: i64| (from..=MONTHS_AHEAD).map(|ahead| Month::of(now).plus(ahead));
    let days = (0..=DAYS_AHEAD).map(|ahead| Day::of(now).plus(ahead));
    let all = months(0).flat_map(Partition::of_tasks);
    let all = all.chain(months(-EVENT_MONTHS_BEHIND).map(Partition::of_events));
    for partition in all.chain(days.map(Partition::of_records)) {
        if let Err(error) = partition.ensure(client, now).await {
            if client.is_closed() {
                return Err(error);
            }
            tracing::warn!(partition = partition.name, error = %said(&error), "partition not created; retrying later");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_where_calendars_say() {
        assert_eq!((Month::named("default"), Month::named("2026_13")), (None, None));
        for (at, name, begin) in [
            (0, "1970_01", 0),
            (1_700_000_000_000, "2023_11", 1_698_796_800_000),
            (1_709_251_199_999, "2024_02", 1_706_745_600_000),
            (1_709_251_200_000, "2024_03", 1_709_251_200_000),
            (1_798_761_599_999, "2026_12", 1_796_083_200_000),
        ] {
            let month = Month::of(UnixMs(at));
            assert_eq!((month.name().as_str(), month.begin().0), (name, begin));
            assert_eq!((Month::of(month.begin()), Month::named(name)), (month, Some(month)));
            assert_eq!(Month::of(UnixMs(month.begin().0 - 1)), month.plus(-1));
        }
    }

    #[test]
    fn days_have_the_names_of_calendars() {
        for (at, name) in
            [(0, "1970_01_01"), (1_709_164_800_000, "2024_02_29"), (1_798_761_599_999, "2026_12_31")]
        {
            let partition = Partition::of_records(Day::of(UnixMs(at)));
            assert_eq!(partition.name, format!("records_{name}"));
            let day = Day::of(UnixMs(at));
            assert!(day.begin().0 <= at && at < day.plus(1).begin().0);
            assert_eq!(Day::named(name), Some(day));
        }
        assert!(
            ["2024_02_30", "2024_02", "default", "2024_02_-1"].iter().all(|name| Day::named(name).is_none())
        );
    }
}
