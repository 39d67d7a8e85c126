//! `covey events`: what devices tell.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use covey_client::{
    DeviceFilter, Error, Event, EventFilter, PageRequest, Record, Stream, StreamFilter, Told,
};

use crate::command::connection::{Connection, Target};
use crate::command::device::DeviceName;
use crate::command::moment;
use crate::command::output::{cell, printable};

/// How many events one request asks for.
const SIZE_MAX: u32 = 1_000;
/// How long to wait before a server that has gone is asked again.
pub const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// `covey events`.
#[derive(Args)]
pub struct EventsArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: EventsCommand,
}

#[derive(Subcommand)]
enum EventsCommand {
    /// List events, newest first
    #[command(after_help = "Examples:\n  \
        covey events list --device lamp-1 --type 13 --type 14\n  \
        covey events list --after 2026-02-03T00:00:00Z --limit 10000 --json | jq -r .payload\n\n\
        The server adds events of its own: type -1 a device connected, -2 a device disconnected. Name them to see them:\n  \
        covey events list --type -1 --type -2")]
    List(ListArgs),
    /// Show the last events, oldest first; with --follow, continue with new events and, with --kind, with other
    /// changes
    #[command(after_help = "Examples:\n  \
        covey events tail --follow\n  \
        covey events tail -f --device lamp-1 --kind event --kind result --json\n  \
        covey events tail -f --kind all --from 0   (everything that is kept, then new changes)\n\n\
        It reconnects when the server restarts, and continues where it was. Ctrl-C ends it.")]
    Tail(TailArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Only events of this device: serial number, or number
    #[arg(long, value_name = "SN|ID")]
    device: Option<DeviceName>,
    /// Only events of this type; repeat for more
    #[arg(long = "type", value_name = "CODE", allow_negative_numbers = true)]
    types: Vec<i32>,
    /// No events of this type; repeat for more
    #[arg(long = "not-type", value_name = "CODE", allow_negative_numbers = true)]
    not_types: Vec<i32>,
    /// Only events received at or after this instant: 2026-02-03T04:05:06Z, or Unix seconds
    #[arg(long, value_name = "TIME")]
    after: Option<String>,
    /// Only events received before this instant
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// Events to list, at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Args)]
struct TailArgs {
    /// Only changes of this device: serial number, or number; repeat for more
    #[arg(long, value_name = "SN|ID")]
    device: Vec<DeviceName>,
    /// Only changes of devices with this tag; repeat for more
    #[arg(long, value_name = "NAME[=VALUE]")]
    tag: Vec<String>,
    /// Kind of change to show; repeat for more
    #[arg(long, value_name = "KIND", default_value = "event",
        value_parser = ["event", "task", "result", "presence", "twin", "all"])]
    kind: Vec<String>,
    /// Of the events, only those of this type; repeat for more
    #[arg(long = "type", value_name = "CODE", value_parser = clap::value_parser!(i32).range(0..))]
    types: Vec<i32>,
    /// Continue with new changes
    #[arg(short, long)]
    follow: bool,
    /// Begin after this cursor (the id of a change) instead of with the last events
    #[arg(long, value_name = "CURSOR", requires = "follow")]
    from: Option<String>,
    /// Last events to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    lines: u32,
}

/// Runs `covey events`.
pub async fn run(args: EventsArgs, connection: &Connection) -> Result<ExitCode> {
    match args.command {
        EventsCommand::List(args) => list(args, connection).await?,
        EventsCommand::Tail(args) => tail(args, connection).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: ListArgs, connection: &Connection) -> Result<()> {
    let device = match &args.device {
        Some(name) => Some(name.find(connection).await?.device_id),
        None => None,
    };
    let filter = EventFilter {
        device_id: device,
        include: args.types.into_iter().map(i64::from).collect(),
        exclude: args.not_types.into_iter().map(i64::from).collect(),
        received_after: args.after,
        received_before: args.before,
    };
    let output = connection.output;
    let (mut left, mut cursor) = (args.limit, None);
    let mut rows = Vec::new();
    while left > 0 {
        let size = left.min(SIZE_MAX);
        let found = connection.client.event_list(&filter, cursor.as_deref(), size).await?;
        // A page of large ones has fewer.
        left = left.saturating_sub(u32::try_from(found.items.len()).unwrap_or(u32::MAX));
        for event in &found.items {
            if output.json {
                output.json(event)?;
            } else {
                rows.push(vec![
                    cell(event.id.to_string()),
                    cell(moment::of(event.received_at)),
                    cell(&*event.sn),
                    cell(event.event_type_code.to_string()),
                    cell(event.dev_event_id.to_string()),
                    cell(event.payload.get()),
                ]);
            }
        }
        cursor = found.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if !output.json {
        let count = rows.len();
        output.text(&output.table(&["ID", "RECEIVED", "DEVICE", "TYPE", "NUMBER", "BODY"], rows))?;
        output.note(&format!(
            "{} events{}",
            count,
            if cursor.is_some() { "; there may be more" } else { "" }
        ));
    }
    Ok(())
}

async fn tail(args: TailArgs, connection: &Connection) -> Result<()> {
    let mut device_ids = Vec::new();
    for name in &args.device {
        device_ids.push(name.find(connection).await?.device_id);
    }
    let is_all = args.kind.iter().any(|kind| kind == "all");
    let has_events = is_all || args.kind.iter().any(|kind| kind == "event");
    let is_past = args.kind.iter().all(|kind| kind == "event");
    if !args.follow && !is_past {
        bail!(
            "only events can be looked back at; to see {} as they happen, add --follow",
            args.kind.join(", ")
        );
    }
    let event_types: Vec<_> = args.types.into_iter().map(i64::from).collect();
    let filter = StreamFilter {
        device_ids,
        tags: args.tag,
        kinds: if is_all { Vec::new() } else { args.kind },
        event_types,
    };
    let mut tail = Tail { filter, cursor: args.from, shown: 0, is_known: false };
    let is_looked_back = tail.cursor.is_none() && has_events && args.lines > 0;
    // Opened before the look back, so that nothing is missed in between.
    let mut open = match args.follow {
        true => Some(tail.open(connection).await?),
        false => None,
    };
    if is_looked_back {
        tail.look_back(args.lines, connection).await?;
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        let followed = match open.take() {
            Some(stream) => tail.follow(stream, connection).await,
            None => match tail.open(connection).await {
                Ok(stream) => tail.follow(stream, connection).await,
                Err(error) => Err(error),
            },
        };
        match followed {
            Ok(()) => {}
            // Whoever was never let in will not be; a server that was there comes back.
            Err(error) if !tail.is_known || is_refusal(&error) => return Err(error),
            Err(error) => connection.output.note(&format!("{error}; connecting again")),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// What is shown, and how far it was.
struct Tail {
    filter: StreamFilter,
    cursor: Option<String>,
    /// The last event that was shown while looking back.
    shown: i64,
    is_known: bool,
}

impl Tail {
    async fn open(&mut self, connection: &Connection) -> Result<Stream> {
        let stream = connection.client.stream(&self.filter, self.cursor.as_deref()).await?;
        self.is_known = true;
        Ok(stream)
    }

    /// Shows the last events, oldest first.
    async fn look_back(&mut self, lines: u32, connection: &Connection) -> Result<()> {
        let mut events = Vec::new();
        let devices: Vec<_> = match self.filter.device_ids.as_slice() {
            _ if !self.filter.tags.is_empty() => self.tagged(connection).await?,
            [] => vec![None],
            ids => ids.iter().map(|id| Some(*id)).collect(),
        };
        for device_id in devices {
            // Presence is a kind of its own here.
            let exclude = vec![-1, -2];
            let include = self.filter.event_types.clone();
            let filter = EventFilter { device_id, include, exclude, ..EventFilter::default() };
            let (mut left, mut cursor) = (lines, None::<String>);
            while left > 0 {
                let found = connection.client.event_list(&filter, cursor.as_deref(), left).await?;
                left = left.saturating_sub(u32::try_from(found.items.len()).unwrap_or(u32::MAX));
                events.extend(found.items);
                cursor = found.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
        events.sort_by_key(|event| event.id);
        let first = events.len().saturating_sub(lines as usize);
        for event in events.drain(first..) {
            self.shown = self.shown.max(event.id);
            if connection.output.json {
                connection.output.json(&past(&event))?;
            } else {
                let at = moment::of(event.received_at);
                let what = format!("type {} {}", event.event_type_code, event.payload.get());
                connection.output.text(&line(&at, "event", &event.sn, &what))?;
            }
        }
        Ok(())
    }

    /// The devices that have one of the tags, and are among those that were named.
    async fn tagged(&self, connection: &Connection) -> Result<Vec<Option<i64>>> {
        let mut found = BTreeSet::new();
        for tag in &self.filter.tags {
            let filter = DeviceFilter { tag: Some(tag.clone()), ..DeviceFilter::default() };
            for number in 1.. {
                let page = PageRequest { page: number, size: SIZE_MAX };
                let devices = connection.client.device_list(&filter, page).await?.items;
                let is_last = devices.len() < SIZE_MAX as usize;
                found.extend(devices.into_iter().map(|device| device.device_id));
                if is_last {
                    break;
                }
            }
        }
        let named = &self.filter.device_ids;
        Ok(found.into_iter().filter(|id| named.is_empty() || named.contains(id)).map(Some).collect())
    }

    /// Shows what a stream tells, until it ends.
    async fn follow(&mut self, mut stream: Stream, connection: &Connection) -> Result<()> {
        loop {
            let told = stream.next().await;
            self.cursor = stream.cursor().map(str::to_owned).or(self.cursor.take());
            match told? {
                None => return Ok(()),
                Some(told) if told.kind == "end" => {
                    connection.output.note(&format!("the server ended the stream: {}", told.data.get()));
                    return Ok(());
                }
                Some(told) => {
                    let number = told.id.as_deref().and_then(|id| id.parse::<i64>().ok());
                    let is_shown = told.kind == "event" && number.is_some_and(|number| number <= self.shown);
                    if !is_shown {
                        show(&told, connection)?;
                    }
                }
            }
        }
    }
}

/// An event in the form of a change, in which a stream would have told it.
fn past(event: &Event) -> Record<'_> {
    Record {
        id: event.id,
        kind: "event".into(),
        at: event.received_at,
        device_id: event.device_id,
        sn: (*event.sn).into(),
        task: None,
        result: None,
        event: Some(event.clone()),
        presence: None,
        twin: None,
    }
}

fn line(at: &str, kind: &str, sn: &str, what: &str) -> String {
    format!("{at}  {kind:<8} {}  {}", printable(sn), printable(what))
}

/// Whether it makes no sense to ask again: the server has said no, or nobody
/// reads what is written.
pub fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Error>(), Some(Error::Refused { .. }))
        || error.downcast_ref::<std::io::Error>().is_some()
}

fn show(told: &Told, connection: &Connection) -> Result<()> {
    let output = connection.output;
    if output.json {
        return Ok(output.json(&told.data)?);
    }
    let text = match serde_json::from_str::<Record<'_>>(told.data.get()) {
        Ok(Record { at, sn, event, .. }) => {
            let what = match event {
                Some(event) => format!("type {} {}", event.event_type_code, event.payload.get()),
                None => about(told.data.get(), &told.kind),
            };
            line(&moment::of(at), &told.kind, &sn, &what)
        }
        Err(_) => printable(told.data.get()),
    };
    Ok(output.text(&text)?)
}

/// The part of a change that its kind names.
fn about(data: &str, kind: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    value.get(kind).map(ToString::to_string).unwrap_or_default()
}
