//! Events in a report for people.

use std::fmt::Write as _;

use super::{Line, latency, milliseconds, pace};
use crate::bench::events::{EventsResult, Verification};
use crate::bench::latency::LatencySummary;
use crate::bench::report::{Measurement, Report};

pub(super) fn lines(result: &EventsResult) -> Vec<Line> {
    let options = &result.options;
    let eva = if options.with_eva { format!(", {} eva", result.evas) } else { String::new() };
    let stream = result.stream_latency.as_ref().map_or_else(
        || "not measured".to_owned(),
        |measured| format!("{} events, one at a time: {}", measured.count, latency(measured)),
    );
    vec![
        (
            "events",
            format!(
                "{} devices, {} on their way each, {:.0} % sent twice, {}, {:.1} s after {} s of warm-up",
                options.devices,
                options.window,
                options.duplicates.share() * 100.0,
                pace(options.rate_per_s),
                options.duration.as_secs_f64(),
                options.warmup.as_secs_f64()
            ),
        ),
        (
            "events/s",
            format!(
                "{:.0} acknowledged, and {:.0} duplicates ({}{eva})",
                result.events_per_s,
                result.duplicates_per_s,
                refusals(result)
            ),
        ),
        ("latency", format!("{} (to the acknowledgement)", latency(&result.latency))),
        (
            "processor",
            format!(
                "{:.1} us a message in the server, {:.1} us in the devices",
                result.server_cpu_us_per_message, result.own_cpu_us_per_message
            ),
        ),
        (
            "commits",
            format!(
                "{}, {:.1} operations each; an event takes {} ms in the server",
                result.server.commits,
                result.server.operations_per_commit,
                step_ms(result)
            ),
        ),
        ("stored", stored(&result.verification)),
        ("stream", stream),
    ]
}

/// The mean time of the server's step for an event.
fn step_ms(result: &EventsResult) -> String {
    let step = result.server.steps.iter().find(|step| step.step == "event");
    step.map_or_else(|| "?".to_owned(), |step| milliseconds(step.mean_us))
}

fn refusals(result: &EventsResult) -> String {
    let mut parts: Vec<_> = result.refusals.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if result.broken > 0 {
        parts.push(format!("{} connections broke", result.broken));
    }
    if parts.is_empty() { "none refused".to_owned() } else { parts.join(", ") }
}

fn stored(found: &Verification) -> String {
    let verdict = if found.is_exactly_once { "each exactly once" } else { "NOT each exactly once" };
    format!(
        "{verdict}: {} acknowledged, {} stored, {} missing, {} stored twice, {} unknown, {} doubtful (looked at in {:.1} s)",
        found.acknowledged,
        found.stored,
        found.missing,
        found.stored_twice,
        found.unknown,
        found.doubtful,
        found.took_s
    )
}

/// A table of all measurements of events; nothing if there are none.
pub(super) fn markdown(report: &Report) -> String {
    let rows: Vec<_> = report.measurements.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n| devices | window | pace | events/s | duplicates/s | p50 ms | p99 ms | server us a message | \
         devices us a message | operations a commit | stored | stream p50 ms | stream p99 ms |\n\
         | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: |\n",
    );
    for row in rows {
        let _ = writeln!(text, "{row}");
    }
    text
}

fn row(measurement: &Measurement) -> Option<String> {
    let Measurement::Events(result) = measurement else { return None };
    let ms = |us: u64| milliseconds(us as f64);
    let stream = |of: fn(&LatencySummary) -> u64| {
        result.stream_latency.as_ref().map_or_else(String::new, |latency| ms(of(latency)))
    };
    let stored = if result.verification.is_exactly_once { "each once" } else { "NOT each once" };
    Some(format!(
        "| {} | {} | {} | {:.0} | {:.0} | {} | {} | {:.1} | {:.1} | {:.1} | {stored} | {} | {} |",
        result.options.devices,
        result.options.window,
        pace(result.options.rate_per_s),
        result.events_per_s,
        result.duplicates_per_s,
        ms(result.latency.p50_us),
        ms(result.latency.p99_us),
        result.server_cpu_us_per_message,
        result.own_cpu_us_per_message,
        result.server.operations_per_commit,
        stream(|latency| latency.p50_us),
        stream(|latency| latency.p99_us),
    ))
}
