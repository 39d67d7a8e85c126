//! Many organisations beside one that floods, in a report for people.

use std::fmt::Write as _;

use super::{Line, latency, milliseconds};
use crate::bench::organisations::OrganisationsResult;
use crate::bench::report::{Measurement, Report};

pub(super) fn lines(result: &OrganisationsResult) -> Vec<Line> {
    let errors: Vec<_> = result.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let errors = if errors.is_empty() { "no errors".to_owned() } else { errors.join(", ") };
    vec![
        (
            "organisations",
            format!(
                "{}, one of which floods with {} callers",
                result.options.organisations, result.options.callers
            ),
        ),
        ("capacity", format!("{:.0} calls/s of all in a closed loop", result.capacity_per_s)),
        ("due", format!("{:.1} calls/s of each of the others", result.rate_per_s)),
        (
            "kept",
            format!(
                "{:.1} % by the one with least, {:.1} % by the one in the middle; {errors}, {} unfinished",
                result.kept_min * 100.0,
                result.kept_median * 100.0,
                result.unfinished
            ),
        ),
        ("latency", latency(&result.latency)),
        ("flood", format!("{:.0} calls/s", result.flood_per_s)),
    ]
}

/// A table of all such measurements; nothing if there are none.
pub(super) fn markdown(report: &Report) -> String {
    let rows: Vec<_> = report.measurements.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n| organisations | capacity calls/s | due of each | kept, least % | kept, middle % | p50 ms | p99 ms | \
         flood calls/s |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        let _ = writeln!(text, "{row}");
    }
    text
}

fn row(measurement: &Measurement) -> Option<String> {
    let Measurement::Organisations(result) = measurement else { return None };
    let ms = |us: u64| milliseconds(us as f64);
    Some(format!(
        "| {} | {:.0} | {:.1} | {:.1} | {:.1} | {} | {} | {:.0} |",
        result.options.organisations,
        result.capacity_per_s,
        result.rate_per_s,
        result.kept_min * 100.0,
        result.kept_median * 100.0,
        ms(result.latency.p50_us),
        ms(result.latency.p99_us),
        result.flood_per_s,
    ))
}
