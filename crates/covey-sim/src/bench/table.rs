//! A report for people: lines with a name each for a terminal, tables in
//! Markdown for a document.

mod events;
mod organisations;
mod streams;

use std::fmt::Write;

use crate::bench::calls::CallsResult;
use crate::bench::connect::ConnectResult;
use crate::bench::latency::LatencySummary;
use crate::bench::report::{Header, Measurement, Report};
use crate::bench::server_work::{Memory, ServerWork};

/// A line: its name, and what it says.
pub(super) type Line = (&'static str, String);

impl Report {
    /// For people, in a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = lines(&header(&self.header));
        for one in &self.measurements {
            text.push('\n');
            text.push_str(&lines(&measurement(one)));
        }
        text
    }

    /// For people, in a document: a table for each kind of measurement.
    #[must_use]
    pub fn markdown(&self) -> String {
        markdown(self)
    }
}

/// Lines with their names in a column.
pub(crate) fn lines(lines: &[Line]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, says) in lines {
        let _ = writeln!(text, "{name:width$}  {says}");
    }
    text
}

fn header(header: &Header) -> Vec<Line> {
    let machine = &header.machine;
    let server = header.server.as_deref().unwrap_or("a private one for each measurement, on loopback");
    vec![
        ("covey", format!("{}, {}", header.version, header.date)),
        (
            "machine",
            format!(
                "{}, {} cores, {}, {}",
                machine.cpu,
                machine.cores,
                mebibytes(machine.memory_bytes),
                machine.kernel
            ),
        ),
        ("command", header.command.clone()),
        ("server", server.to_owned()),
        ("setting", header.setting.to_owned()),
    ]
}

fn measurement(measurement: &Measurement) -> Vec<Line> {
    match measurement {
        Measurement::Calls(result) => calls(result),
        Measurement::Connect(result) => connect(result),
        Measurement::Events(result) => events::lines(result),
        Measurement::Streams(result) => streams::lines(result),
        Measurement::Organisations(result) => organisations::lines(result),
    }
}

fn calls(result: &CallsResult) -> Vec<Line> {
    let options = &result.options;
    let mut lines = vec![
        (
            "calls",
            format!(
                "{} devices, {} callers, {}, {:.1} s after {} s of warm-up",
                options.devices,
                options.callers,
                pace(options.rate_per_s),
                result.window_s,
                options.warmup.as_secs_f64()
            ),
        ),
        (
            "calls/s",
            format!("{:.0} ({} completed, {})", result.calls_per_s, result.completed, errors(result)),
        ),
        ("latency", latency(&result.latency)),
        ("memory", result.server_memory.as_ref().map_or_else(|| "not told by the server".to_owned(), memory)),
        (
            "processor",
            format!(
                "{:.0} us a call in the server, {:.0} us in devices and callers",
                result.server_cpu_us_per_call, result.own_cpu_us_per_call
            ),
        ),
    ];
    lines.extend(server(&result.server));
    lines
}

fn server(work: &ServerWork) -> [Line; 2] {
    let done = work.steps.iter().filter(|step| step.count > 0);
    let steps: Vec<_> = done.map(|step| format!("{} {}", step.step, milliseconds(step.mean_us))).collect();
    [
        ("steps, ms", format!("{} (means; call spans all)", steps.join("  "))),
        ("commits", format!("{}, {:.1} operations each", work.commits, work.operations_per_commit)),
    ]
}

fn connect(result: &ConnectResult) -> Vec<Line> {
    let options = &result.options;
    let rate = options.rate_per_s.map_or_else(String::new, |rate| format!(", {rate} a second at most"));
    let calls = result.calls.as_ref().map_or_else(
        || "none".to_owned(),
        |calls| format!("{}, one at a time, {} failed: {}", calls.count, result.calls_failed, latency(calls)),
    );
    vec![
        ("connect", format!("{} devices, {} at a time{rate}", options.devices, options.concurrency)),
        ("connects/s", format!("{:.0} ({:.1} s for all)", result.connects_per_s, result.joined_s)),
        ("joining", latency(&result.joining)),
        (
            "memory",
            format!(
                "{:.1} KiB for each idle device in the server ({} to {}), {:.1} KiB on the device's side",
                result.server_bytes_per_device / 1024.0,
                mebibytes(result.server_before_bytes),
                mebibytes(result.server_after_bytes),
                result.own_bytes_per_device / 1024.0
            ),
        ),
        ("processor", format!("{:.0} us a device in the server", result.server_cpu_us_per_connect)),
        ("calls", calls),
    ]
}

pub(super) fn pace(rate_per_s: Option<f64>) -> String {
    rate_per_s.map_or_else(|| "closed loop".to_owned(), |rate| format!("open loop, {rate} a second"))
}

fn errors(result: &CallsResult) -> String {
    let mut parts: Vec<_> = result.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if result.unfinished > 0 {
        parts.push(format!("{} unfinished", result.unfinished));
    }
    if parts.is_empty() { "no errors".to_owned() } else { parts.join(", ") }
}

pub(super) fn latency(latency: &LatencySummary) -> String {
    let ms = |us: u64| milliseconds(us as f64);
    format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  max {} ms",
        ms(latency.p50_us),
        ms(latency.p90_us),
        ms(latency.p99_us),
        ms(latency.p999_us),
        ms(latency.max_us)
    )
}

fn memory(memory: &Memory) -> String {
    format!(
        "{} to {} in the server, {:+.1} KiB/s, {:+.1} in the second half",
        mebibytes(memory.before_bytes),
        mebibytes(memory.after_bytes),
        memory.slope_bytes_per_s / 1024.0,
        memory.late_slope_bytes_per_s / 1024.0
    )
}

pub(super) fn milliseconds(us: f64) -> String {
    let ms = us / 1e3;
    if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.1}") }
}

#[allow(clippy::cast_precision_loss)] // for people
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0)
}

/// The whole report as a document.
fn markdown(report: &Report) -> String {
    let mut text = String::from("# Benchmark\n\n");
    for (name, says) in header(&report.header) {
        let _ = writeln!(text, "- {name}: {says}");
    }
    let calls: Vec<_> = report.measurements.iter().filter_map(calls_row).collect();
    if !calls.is_empty() {
        text.push_str(
            "\n| devices | callers | pace | calls/s | errors | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms | \
             server us a call | others us a call | memory KiB/s, late | operations a commit |\n\
             | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        text.push_str(&calls.concat());
    }
    let connects: Vec<_> = report.measurements.iter().filter_map(connect_row).collect();
    if !connects.is_empty() {
        text.push_str(
            "\n| devices | at a time | connects/s | join p50 ms | join p99 ms | server KiB a device | \
             call p50 ms | call p99 ms |\n\
             | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        text.push_str(&connects.concat());
    }
    text.push_str(&events::markdown(report));
    text.push_str(&streams::markdown(report));
    text.push_str(&organisations::markdown(report));
    text
}

fn calls_row(measurement: &Measurement) -> Option<String> {
    let Measurement::Calls(result) = measurement else { return None };
    let ms = |us: u64| milliseconds(us as f64);
    let latency = &result.latency;
    let errors = result.errors.values().sum::<u64>() + result.unfinished;
    let slope = result
        .server_memory
        .as_ref()
        .map_or_else(String::new, |memory| format!("{:+.1}", memory.late_slope_bytes_per_s / 1024.0));
    Some(format!(
        "| {} | {} | {} | {:.0} | {errors} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {slope} | {:.1} |\n",
        result.options.devices,
        result.options.callers,
        pace(result.options.rate_per_s),
        result.calls_per_s,
        ms(latency.p50_us),
        ms(latency.p90_us),
        ms(latency.p99_us),
        ms(latency.p999_us),
        ms(latency.max_us),
        result.server_cpu_us_per_call,
        result.own_cpu_us_per_call,
        result.server.operations_per_commit,
    ))
}

fn connect_row(measurement: &Measurement) -> Option<String> {
    let Measurement::Connect(result) = measurement else { return None };
    let ms = |us: u64| milliseconds(us as f64);
    let call = |of: fn(&LatencySummary) -> u64| {
        result.calls.as_ref().map_or_else(String::new, |calls| milliseconds(of(calls) as f64))
    };
    Some(format!(
        "| {} | {} | {:.0} | {} | {} | {:.1} | {} | {} |\n",
        result.options.devices,
        result.options.concurrency,
        result.connects_per_s,
        ms(result.joining.p50_us),
        ms(result.joining.p99_us),
        result.server_bytes_per_device / 1024.0,
        call(|calls| calls.p50_us),
        call(|calls| calls.p99_us),
    ))
}
