//! What is kept, in bytes.

use covey_core::quota::{Counted, OrgDay, ROW_BYTES, Uncounted};
use covey_core::retention::RetentionClass;

use crate::rows::{Columns, Read, get, number};

/// What organisations have stored in days, each at least once; the messages of their webhooks, which are kept now,
/// without a class.
pub(crate) const KEPT_OF_ORGS: &str = "SELECT o.id, o.name, coalesce(k.kept, -1), coalesce(k.day, 0), \
     CAST(coalesce(sum(k.bytes), 0) AS BIGINT) \
     FROM orgs o LEFT JOIN org_kept_bytes k ON k.org_id = o.id GROUP BY o.id, o.name, k.kept, k.day \
     UNION ALL SELECT o.id, o.name, -1, 0, CAST(sum(256 * (p.parked + p.dead)) AS BIGINT) FROM webhooks w \
     JOIN webhook_progress p ON p.webhook_id = w.id JOIN orgs o ON o.id = w.org_id GROUP BY o.id, o.name";

/// One of them.
pub(crate) fn org_day(row: &dyn Columns) -> Read<OrgDay> {
    let class = class(row, 2)?;
    Ok(OrgDay { org: get(row, 0)?, name: get(row, 1)?, class, day: get(row, 3)?, bytes: get(row, 4)? })
}

/// What was stored with a record `r` that is about a new task `t`, a result `x` or an event `e`, or says what a
/// twin reports, in the order that [`uncounted`] reads it. The numbers are those of `RecordKind`, of
/// `RetentionClass` and of `twin_side`, which a test compares.
macro_rules! uncounted_columns {
    () => {
        "r.number, r.org_id, r.device_key, r.at, \
         CASE WHEN r.kind = 1 AND r.name = 'created' THEN 0 WHEN r.kind = 2 THEN 0 WHEN r.kind = 3 THEN 1 \
             WHEN r.kind = 5 AND r.status = 0 THEN 3 ELSE -1 END, \
         coalesce(octet_length(t.payload), 0) + coalesce(octet_length(x.body), 0) \
             + coalesce(octet_length(e.payload), 0) + coalesce(octet_length(r.value), 0)"
    };
}

pub(crate) use uncounted_columns;

/// One of them.
pub(crate) fn uncounted(row: &dyn Columns) -> Read<Uncounted> {
    let class = class(row, 4)?;
    // It is small.
    let of_row = i64::try_from(ROW_BYTES).unwrap_or_default();
    Ok(Uncounted {
        number: get(row, 0)?,
        org: get(row, 1)?,
        device: get(row, 2)?,
        at: get(row, 3)?,
        class,
        bytes: get::<i64>(row, 5)?.saturating_add(of_row),
    })
}

/// How far is counted.
pub(crate) fn counted(row: &dyn Columns) -> Read<Counted> {
    Ok(Counted { counted: get(row, 0)?, marked: get(row, 1)?, parts: number(row, 2)? })
}

fn class(row: &dyn Columns, column: usize) -> Read<Option<RetentionClass>> {
    Ok(u8::try_from(get::<i64>(row, column)?).ok().and_then(RetentionClass::from_number))
}

#[cfg(test)]
mod tests {
    use covey_core::record::{RecordKind, TwinSide};
    use covey_core::retention::RetentionClass;
    use covey_core::task::Cause;

    use crate::rows::twin_side;

    #[test]
    fn the_numbers_in_the_statement_are_those_of_the_domain() {
        use RecordKind::{Event, Result, Task, Twin};
        assert_eq!([Task, Result, Event, Twin].map(RecordKind::number), [1, 2, 3, 5]);
        use RetentionClass::{Events, Tasks, TwinHistory};
        assert_eq!([Tasks, Events, TwinHistory].map(RetentionClass::number), [0, 1, 3]);
        assert_eq!((Cause::Created.name(), twin_side(TwinSide::Reported)), ("created", 0));
    }
}
