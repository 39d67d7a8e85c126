//! Limits of an organisation's and a key's own, as `covey org limit` and `covey key limit` take and show them.

use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use covey_client::{KeyLimits, OrgLimits, Whole};

use crate::command::connection::Connection;
use crate::command::org;
use crate::command::output::cell;

/// A limit, or what holds for all.
#[derive(Clone, Copy, Debug)]
struct Wanted(Option<Whole>);

impl FromStr for Wanted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "default" => Ok(Self(None)),
            number => {
                let number = number.parse().map_err(|_| "must be a whole number, or default")?;
                Ok(Self(Some(Whole(number))))
            }
        }
    }
}

/// Limits that organisations and keys may have. Without any, they are shown.
#[derive(Args)]
pub struct LimitArgs {
    /// Requests a second, on each server; as many come at once after a silence
    #[arg(long, value_name = "N|default")]
    requests_per_s: Option<Wanted>,
    /// Requests that run at the same time, on each server
    #[arg(long, value_name = "N|default")]
    requests: Option<Wanted>,
    /// Callers that wait for the end of a task at the same time, on each server
    #[arg(long, value_name = "N|default")]
    waiting: Option<Wanted>,
    /// Streams that are open at the same time, on each server
    #[arg(long, value_name = "N|default")]
    streams: Option<Wanted>,
    /// Work a second, on each server: an event is one, a task two
    #[arg(long, value_name = "N|default")]
    work_per_s: Option<Wanted>,
    /// Bytes a second that are to be stored, on each server
    #[arg(long, value_name = "N|default")]
    bytes_per_s: Option<Wanted>,
}

/// Limits that organisations alone may have.
#[derive(Args)]
pub struct OrgLimitArgs {
    #[command(flatten)]
    shared: LimitArgs,
    /// Bytes that are kept
    #[arg(long, value_name = "N|default")]
    kept_bytes: Option<Wanted>,
    /// Tasks of a device that are not final
    #[arg(long, value_name = "N|default")]
    open_tasks: Option<Wanted>,
}

/// Puts what is wanted in its place; whether anything is.
fn put(places: &mut [(&mut Option<Whole>, Option<Wanted>)]) -> bool {
    let mut is_any = false;
    for (place, wanted) in places {
        if let Some(Wanted(limit)) = wanted {
            **place = *limit;
            is_any = true;
        }
    }
    is_any
}

/// A limit with its name: one's own, and what holds.
type Row = (&'static str, Option<Whole>, Option<Whole>);

fn show(connection: &Connection, rows: &[Row]) -> Result<()> {
    let text =
        |limit: Option<Whole>, none: &str| limit.map_or(none.to_owned(), |Whole(limit)| limit.to_string());
    Ok(connection.output.list(&["LIMIT", "OWN", "IN FORCE"], rows, |(name, own, holds)| {
        vec![cell(*name), cell(text(*own, "")), cell(text(*holds, "none"))]
    })?)
}

/// `covey org limit`.
pub async fn run_org(connection: &Connection, name: &str, args: &OrgLimitArgs) -> Result<()> {
    let id = org::find(connection, name).await?.id;
    let mut report = connection.client.org_limits(id).await?;
    let OrgLimitArgs { shared, kept_bytes, open_tasks } = args;
    let OrgLimits {
        requests_per_s,
        requests,
        waiting,
        streams,
        work_per_s,
        bytes_per_s,
        kept_bytes: kept,
        open_tasks: open,
    } = &mut report.own;
    let is_any = put(&mut [
        (requests_per_s, shared.requests_per_s),
        (requests, shared.requests),
        (waiting, shared.waiting),
        (streams, shared.streams),
        (work_per_s, shared.work_per_s),
        (bytes_per_s, shared.bytes_per_s),
        (kept, *kept_bytes),
        (open, *open_tasks),
    ]);
    if is_any {
        report = connection.client.org_limits_put(id, &report.own).await?;
    }
    if connection.output.json {
        return Ok(connection.output.json(&report)?);
    }
    let (own, holds) = (report.own, report.in_force);
    show(
        connection,
        &[
            ("requests-per-s", own.requests_per_s, holds.requests_per_s),
            ("requests", own.requests, holds.requests),
            ("waiting", own.waiting, holds.waiting),
            ("streams", own.streams, holds.streams),
            ("work-per-s", own.work_per_s, holds.work_per_s),
            ("bytes-per-s", own.bytes_per_s, holds.bytes_per_s),
            ("kept-bytes", own.kept_bytes, holds.kept_bytes),
            ("open-tasks", own.open_tasks, holds.open_tasks),
        ],
    )
}

/// `covey key limit`.
pub async fn run_key(connection: &Connection, id: i64, args: &LimitArgs) -> Result<()> {
    let mut report = connection.client.api_key_limits(id).await?;
    let KeyLimits { requests_per_s, requests, waiting, streams, work_per_s, bytes_per_s } = &mut report.own;
    let is_any = put(&mut [
        (requests_per_s, args.requests_per_s),
        (requests, args.requests),
        (waiting, args.waiting),
        (streams, args.streams),
        (work_per_s, args.work_per_s),
        (bytes_per_s, args.bytes_per_s),
    ]);
    if is_any {
        report = connection.client.api_key_limits_put(id, &report.own).await?;
    }
    if connection.output.json {
        return Ok(connection.output.json(&report)?);
    }
    let (own, holds) = (report.own, report.in_force);
    show(
        connection,
        &[
            ("requests-per-s", own.requests_per_s, holds.requests_per_s),
            ("requests", own.requests, holds.requests),
            ("waiting", own.waiting, holds.waiting),
            ("streams", own.streams, holds.streams),
            ("work-per-s", own.work_per_s, holds.work_per_s),
            ("bytes-per-s", own.bytes_per_s, holds.bytes_per_s),
        ],
    )
}
