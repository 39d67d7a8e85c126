//! A small plot of latencies by percentile, as SVG. The horizontal axis is
//! 1/(1-p) on a logarithmic scale: each nine takes the same room, so that the
//! slowest calls can be seen.

use std::path::Path;

use plotters::prelude::*;

use crate::bench::latency::CurvePoint;
use crate::bench::report::{Measurement, write_file};
use crate::error::{Error, Result};

const SIZE_PIXELS: (u32, u32) = (720, 420);
const COLOURS: [RGBColor; 4] = [BLUE, RED, GREEN, MAGENTA];

/// A curve with its name.
struct Curve<'a> {
    name: String,
    points: &'a [CurvePoint],
}

/// Draws the latencies of measurements into a file.
///
/// # Errors
/// [`Error::Plot`] and [`Error::Output`].
pub fn plot(measurements: &[Measurement], path: &Path) -> Result<()> {
    write_file(path, &svg(measurements)?)
}

fn svg(measurements: &[Measurement]) -> Result<String> {
    let curves: Vec<_> = measurements.iter().flat_map(curves).collect();
    let mut svg = String::new();
    draw(&curves, &mut svg).map_err(|error| Error::Plot { why: error.to_string() })?;
    Ok(svg)
}

fn curves(measurement: &Measurement) -> Vec<Curve<'_>> {
    match measurement {
        Measurement::Calls(result) => {
            let pace = match result.options.rate_per_s {
                Some(rate) => format!("{rate} calls/s due"),
                None => format!("{} callers, {:.0} calls/s", result.options.callers, result.calls_per_s),
            };
            let name = format!("{} devices, {pace}", result.options.devices);
            vec![Curve { name, points: &result.latency.curve }]
        }
        Measurement::Connect(result) => {
            let name = format!("joining, {} at a time", result.options.concurrency);
            let joining = Curve { name, points: &result.joining.curve };
            let name = format!("one call at a time among {} devices", result.options.devices);
            let calls = result.calls.iter().map(|calls| Curve { name: name.clone(), points: &calls.curve });
            std::iter::once(joining).chain(calls).collect()
        }
        Measurement::Events(result) => {
            let name = format!("{} devices, {:.0} events/s", result.options.devices, result.events_per_s);
            let events = Curve { name, points: &result.latency.curve };
            let stream = result.stream_latency.iter();
            let stream = stream
                .map(|latency| Curve { name: "one event to the stream".to_owned(), points: &latency.curve });
            std::iter::once(events).chain(stream).collect()
        }
        Measurement::Streams(result) => {
            let streams = result.options.streams;
            let each =
                Curve { name: format!("one event to each of {streams} streams"), points: &result.each.curve };
            let last = Curve { name: "to the last of them".to_owned(), points: &result.last.curve };
            vec![each, last]
        }
        Measurement::Organisations(result) => {
            let name = format!("{:.1} calls/s due of each organisation", result.rate_per_s);
            vec![Curve { name, points: &result.latency.curve }]
        }
    }
}

fn draw(curves: &[Curve<'_>], svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let points = || curves.iter().flat_map(|curve| curve.points).map(coordinates);
    let rest_max = points().map(|(rest, _)| rest).fold(10.0, f64::max);
    let ms_max = points().map(|(_, ms)| ms).fold(f64::MIN_POSITIVE, f64::max);

    let area = SVGBackend::with_string(svg, SIZE_PIXELS).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((1.0..rest_max * 1.05).log_scale(), 0.0..ms_max * 1.05)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("percentile")
        .y_desc("latency, ms")
        .x_label_formatter(&|rest| percentile(*rest))
        .draw()?;
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(curve.points.iter().map(coordinates), colour.stroke_width(2)))?
            .label(curve.name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}

/// 1/(1-p), and milliseconds.
#[allow(clippy::cast_precision_loss)] // latencies are far below 2^53 us
fn coordinates(point: &CurvePoint) -> (f64, f64) {
    (1.0 / (1.0 - point.quantile), point.latency_us as f64 / 1e3)
}

/// `90%` for 10, `99%` for 100, `99.9%` for 1000.
fn percentile(rest: f64) -> String {
    let percent = 100.0 * (1.0 - 1.0 / rest);
    let digits = (rest.log10().round() - 2.0).clamp(0.0, 6.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 6
    let digits = digits as usize;
    format!("{percent:.digits$}%")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::bench::latency::Latencies;

    #[test]
    fn a_plot_is_well_formed_and_names_its_percentiles() {
        let mut latencies = Latencies::new();
        for us in 1..=20_000_u64 {
            latencies.record(Duration::from_micros(us));
        }
        let summary = latencies.summary().unwrap();
        let one = Curve { name: "a < b & \"c\"".to_owned(), points: &summary.curve };
        for curves in [vec![one], vec![]] {
            let mut svg = String::new();
            draw(&curves, &mut svg).unwrap();
            let labels = well_formed(&svg);
            for label in ["percentile", "90%"] {
                assert!(labels.iter().any(|text| text == label), "{label} is missing in {labels:?}");
            }
            assert!(svg.matches("<polyline").count() > curves.len());
        }
    }

    /// Checks that elements nest and that no text breaks out of its own, and
    /// answers the texts.
    fn well_formed(svg: &str) -> Vec<String> {
        let (mut open, mut texts) = (Vec::new(), Vec::new());
        let mut rest = svg;
        while let Some((text, after)) = rest.split_once('<') {
            assert!(!text.contains('>'), "{text:?}");
            if !text.trim().is_empty() {
                texts.push(text.trim().to_owned());
            }
            let (tag, after) = after.split_once('>').unwrap();
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') && !tag.starts_with(['?', '!']) {
                open.push(tag.split_whitespace().next().unwrap());
            }
            rest = after;
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest:?}");
        texts
    }
}
