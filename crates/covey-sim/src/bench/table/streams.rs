//! Open streams in a report for people.

use std::fmt::Write as _;

use super::{Line, latency, mebibytes, milliseconds};
use crate::bench::events::StreamsResult;
use crate::bench::report::{Measurement, Report};

pub(super) fn lines(result: &StreamsResult) -> Vec<Line> {
    let options = &result.options;
    vec![
        ("streams", format!("{}, all open after {:.1} s", options.streams, result.opened_s)),
        (
            "memory",
            format!(
                "{:.1} KiB for each open stream in the server ({} to {}), {:.1} KiB after {} events",
                result.server_bytes_per_stream / 1024.0,
                mebibytes(result.server_before_bytes),
                mebibytes(result.server_after_bytes),
                result.server_end_bytes_per_stream / 1024.0,
                options.events
            ),
        ),
        ("to the first", latency(&result.first)),
        ("to each", latency(&result.each)),
        ("to the last", latency(&result.last)),
        (
            "processor",
            format!("{:.1} us an event and stream in the server", result.server_cpu_us_per_message),
        ),
    ]
}

/// A table of all measurements of streams; nothing if there are none.
pub(super) fn markdown(report: &Report) -> String {
    let rows: Vec<_> = report.measurements.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n| streams | events | KiB a stream | after the events | first p50 ms | each p50 ms | last p50 ms | \
         last p99 ms | last max ms | server us an event and stream |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        let _ = writeln!(text, "{row}");
    }
    text
}

fn row(measurement: &Measurement) -> Option<String> {
    let Measurement::Streams(result) = measurement else { return None };
    let ms = |us: u64| milliseconds(us as f64);
    Some(format!(
        "| {} | {} | {:.1} | {:.1} | {} | {} | {} | {} | {} | {:.1} |",
        result.options.streams,
        result.options.events,
        result.server_bytes_per_stream / 1024.0,
        result.server_end_bytes_per_stream / 1024.0,
        ms(result.first.p50_us),
        ms(result.each.p50_us),
        ms(result.last.p50_us),
        ms(result.last.p99_us),
        ms(result.last.max_us),
        result.server_cpu_us_per_message,
    ))
}
