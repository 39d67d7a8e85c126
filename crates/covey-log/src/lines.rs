//! How a line looks: for people, or as a JSON object.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::bounds::Bounds;
use crate::fields::{Fields, Kind, Value};

/// What the records of the `log` facade have beside their own fields.
const OF_LOG: &str = "log.";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes log lines, as many as there may be. See the [crate].
pub struct Lines {
    form: Form,
    began: Instant,
    bounds: Mutex<Bounds<Identifier>>,
}

impl Lines {
    /// Lines of this form.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self { form, began: Instant::now(), bounds: Mutex::default() }
    }

    fn admit(&self, event: &Event<'_>, fields: &Fields) -> Option<u64> {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let is_detail = *event.metadata().level() > Level::INFO;
        // What it guards is whole at every moment.
        let mut bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        bounds.admit(event.metadata().callsite(), fields.peer(), is_detail, now_ms)
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Some(left_out) = self.admit(event, &fields) else { return Ok(()) };
        let level = *event.metadata().level();
        match self.form {
            Form::Text => text(&mut writer, level, &fields, left_out),
            Form::Json => {
                let target = fields.named("log.target").unwrap_or(event.metadata().target());
                json(&mut writer, level, target, &fields, left_out)
            }
        }
    }
}

fn text(writer: &mut Writer<'_>, level: Level, fields: &Fields, left_out: u64) -> fmt::Result {
    SystemTime.format_time(writer)?;
    let colour = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        _ => 34,
    };
    match writer.has_ansi_escapes() {
        true => write!(writer, " \u{1b}[{colour}m{level:>5}\u{1b}[0m")?,
        false => write!(writer, " {level:>5}")?,
    }
    for value in shown(fields) {
        match (value.name, value.kind) {
            ("message", _) => write!(writer, " {}", value.text)?,
            (name, Kind::Quoted) => write!(writer, " {name}=\"{}\"", quoted(&value.text))?,
            (name, Kind::Plain | Kind::Said) => write!(writer, " {name}={}", value.text)?,
        }
    }
    if left_out > 0 {
        write!(writer, " left_out={left_out}")?;
    }
    writeln!(writer)
}

/// Nothing in a value ends its quotation marks.
fn quoted(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"")
}

fn json(writer: &mut Writer<'_>, level: Level, target: &str, fields: &Fields, left_out: u64) -> fmt::Result {
    let string = |text: &str| serde_json::Value::from(text).to_string();
    let mut time = String::new();
    SystemTime.format_time(&mut Writer::new(&mut time))?;
    write!(writer, "{{\"timestamp\":{},\"level\":\"{level}\"", string(&time))?;
    for Value { name, text, kind } in shown(fields) {
        let text = if *kind == Kind::Plain { text.clone() } else { string(text) };
        write!(writer, ",{}:{text}", string(name))?;
    }
    if left_out > 0 {
        write!(writer, ",\"left_out\":{left_out}")?;
    }
    writeln!(writer, ",\"target\":{}}}", string(target))
}

/// The message first, then the other fields in their order.
fn shown(fields: &Fields) -> impl Iterator<Item = &Value> {
    let is_message = |value: &&Value| value.name == "message";
    let others = fields.0.iter().filter(move |value| !is_message(value) && !value.name.starts_with(OF_LOG));
    fields.0.iter().filter(is_message).chain(others)
}
