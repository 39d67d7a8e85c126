//! Lists with filters: statements that are made for each.

use covey_core::device::{Device, DeviceFilter, DevicePage, Tag};
use covey_core::id::OrgId;
use covey_core::port::{Page, PageRequest};
use covey_core::task::{TaskFilter, TaskPage, TaskStatus};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::postgres::pipeline;
use crate::postgres::pipeline::{Reply, Step, Value};
use crate::postgres::pool::ReadSession;
use crate::postgres::statements::device_columns;
use crate::rows;
use crate::rows::{Columns, Damaged, Read};

/// Begins a transaction whose statements all see the same moment.
pub(super) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// The same for tasks that are sought by their ids. A month that is made late
/// takes in rows of before: to one who looked first it would be there, and empty.
/// So it is not made until the transaction ends. The locks are had before the
/// moment is fixed (PostgreSQL "LOCK", "Transaction Isolation"), and in the order
/// in which a month is taken out.
pub(super) const SNAPSHOT_OF_TASKS: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     LOCK TABLE ONLY tasks_done, tasks_done_default, ONLY results, results_default IN ACCESS SHARE MODE";

/// The conditions of a list, each with its value.
#[derive(Default)]
pub(super) struct Conditions {
    sql: Vec<String>,
    values: Vec<(Value<'static>, Type)>,
    /// Whether a text was asked for that PostgreSQL cannot hold, so that
    /// nothing can have it.
    is_impossible: bool,
}

impl Conditions {
    /// A condition in which `#` stands for the value.
    pub(super) fn add(&mut self, sql: &str, value: impl ToSql + Sync + Send + 'static, kind: Type) {
        self.values.push((Box::new(value), kind));
        self.sql.push(sql.replace('#', &format!("${}", self.values.len())));
    }

    pub(super) fn number(&mut self, sql: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.add(sql, value, Type::INT8);
        }
    }

    /// That a column has one of these values, or none of them; nothing if
    /// there are no values.
    pub(super) fn among(&mut self, column: &str, is_one: bool, values: &[i64]) {
        if let ([value], true) = (values, is_one) {
            // So that an index gives the rows behind it in order.
            self.number(&format!("{column} = #"), Some(*value));
        } else if !values.is_empty() {
            let sql = if is_one { "= ANY(#)" } else { "<> ALL(#)" };
            self.add(&format!("{column} {sql}"), values.to_vec(), Type::INT8_ARRAY);
        }
    }

    fn text(&mut self, sql: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.is_impossible |= value.contains('\0');
            self.add(sql, value.to_owned(), Type::TEXT);
        }
    }

    pub(super) fn clause(&self) -> String {
        self.sql.join(" AND ")
    }

    pub(super) fn query<'a>(&'a self, client: &'a Client, sql: &'a str) -> Step<'a> {
        Box::pin(async move {
            let values: Vec<(&(dyn ToSql + Sync), Type)> =
                self.values.iter().map(|(value, kind)| (&**value as _, kind.clone())).collect();
            client.query_typed(sql, &values).await.map(Reply::Rows)
        })
    }
}

/// Both statements of a list as of one moment: the total, and the rows.
pub(super) async fn page(
    session: &ReadSession,
    conditions: &Conditions,
    total: &str,
    items: &str,
) -> Read<(u64, Vec<Row>)> {
    let client = &session.client;
    let steps = vec![
        pipeline::batch(client, SNAPSHOT),
        conditions.query(client, total),
        conditions.query(client, items),
        pipeline::batch(client, "COMMIT"),
    ];
    let mut replies = pipeline::run(steps).await?.into_iter().skip(1).map(Reply::rows);
    let total = replies.next().and_then(|rows| rows.into_iter().next());
    let total: i64 = total.map(|row| rows::get(&row, 0)).transpose()?.unwrap_or(0);
    Ok((u64::try_from(total).unwrap_or(0), replies.next().unwrap_or_default()))
}

pub(super) async fn task_page(
    session: &ReadSession,
    org: OrgId,
    filter: &TaskFilter,
    request: PageRequest,
) -> Read<TaskPage> {
    let mut conditions = Conditions::default();
    conditions.number("t.org_id = #", Some(org.0));
    conditions.number("t.device_id = #", filter.device_id.map(|id| id.0));
    conditions.text("t.ext_task_id = #", filter.ext_task_id.as_deref());
    conditions.number("t.status = #", filter.status.map(|status| i64::from(status.number())));
    conditions.number("t.created_at >= #", filter.created_after.map(|at| at.0));
    conditions.number("t.created_at < #", filter.created_before.map(|at| at.0));
    if conditions.is_impossible {
        return Ok(Page { items: Vec::new(), total: 0 });
    }
    let clause = conditions.clause();
    let tables: &[&str] = match filter.status.map(TaskStatus::is_final) {
        None => &["tasks_open", "tasks_done"],
        Some(false) => &["tasks_open"],
        Some(true) => &["tasks_done"],
    };
    let counts: Vec<_> =
        tables.iter().map(|table| format!("(SELECT count(*) FROM {table} t WHERE {clause})")).collect();
    let total = if *filter == TaskFilter::default() {
        "SELECT coalesce(sum(count), 0)::int8 FROM task_counts WHERE org_id = $1".to_owned()
    } else {
        format!("SELECT {}", counts.join(" + "))
    };
    // Each table gives as many as the page could need, from the end of its index.
    let (size, offset) = (u64::from(request.size), request.offset());
    let columns = rows::task_columns!();
    let wanted = size.saturating_add(offset);
    let parts: Vec<_> = tables
        .iter()
        .map(|table| {
            format!("(SELECT {columns} FROM {table} t WHERE {clause} ORDER BY t.seq DESC LIMIT {wanted})")
        })
        .collect();
    let items = format!(
        "SELECT {columns} FROM ({}) AS t ORDER BY t.seq DESC LIMIT {size} OFFSET {offset}",
        parts.join(" UNION ALL ")
    );
    let (total, found) = page(session, &conditions, &total, &items).await?;
    Ok(Page { items: rows::each(&found, rows::task)?, total })
}

pub(super) async fn device_page(
    session: &ReadSession,
    org: OrgId,
    filter: &DeviceFilter,
    request: PageRequest,
) -> Read<DevicePage> {
    let mut conditions = Conditions::default();
    conditions.number("d.org_id = #", Some(org.0));
    conditions.number("d.device_id = #", filter.device_id.map(|id| id.0));
    conditions.text("d.sn = #", filter.sn.as_deref());
    if let Some(online) = filter.online {
        conditions.add("coalesce(c.online, false) = #", online, Type::BOOL);
    }
    if let Some((tag, value)) = &filter.tag {
        let tagged = "EXISTS (SELECT 1 FROM device_tags g WHERE g.device_key = d.id AND g.org_id = d.org_id";
        conditions.text(&format!("{tagged} AND g.tag = #"), Some(tag));
        match value {
            None => conditions.sql.push("true)".to_owned()),
            Some(value) => {
                conditions.text("left(g.value, 64) = left(#, 64) AND g.value = #)", Some(value));
            }
        }
    }
    if conditions.is_impossible {
        return Ok(Page { items: Vec::new(), total: 0 });
    }
    let clause = conditions.clause();
    let from = "devices d LEFT JOIN connections c ON c.device_key = d.id";
    let total = format!("SELECT count(*) FROM {from} WHERE d.retired_at IS NULL AND {clause}");
    let columns = device_columns!();
    let items = format!(
        "SELECT {columns} FROM {from} WHERE d.retired_at IS NULL AND {clause} ORDER BY d.device_id \
         LIMIT {} OFFSET {}",
        request.size,
        request.offset()
    );
    let (total, found) = page(session, &conditions, &total, &items).await?;
    Ok(Page { items: rows::each(&found, device)?, total })
}

/// A device with its tags, from `device_columns!`.
pub(super) fn device(row: &dyn Columns) -> Read<Device> {
    Ok(Device { tags: tags(12, rows::get(row, 12)?)?, ..rows::device(row)? })
}

/// Tags, as JSON: `[["name", "value"], …]`.
pub(super) fn tags(column: usize, text: &str) -> Read<Vec<Tag>> {
    let tags: Vec<(String, String)> =
        serde_json::from_str(text).map_err(|_| Damaged::Value(column, "tags"))?;
    Ok(tags.into_iter().map(|(tag, value)| Tag { tag, value }).collect())
}
