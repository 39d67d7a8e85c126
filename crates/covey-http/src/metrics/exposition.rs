//! The two text forms of the measurements: OpenMetrics 1.0 for those who ask
//! for it, and the text format 0.0.4 of Prometheus for everybody else.

use std::fmt::Write;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// A text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus, "Exposition formats", text-based format.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The form that a scraper prefers (RFC 9110 §12.5.1).
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let accepted: Vec<_> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(media_range)
            .collect();
        // The most specific range that names a type says how much it is wanted;
        // of two that are wanted alike, the one that is named more exactly.
        let wish = |ranges: [&str; 3]| {
            let of = |range| accepted.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(range));
            let quality = |range| of(range).map(|(_, quality)| *quality).reduce(f32::max);
            (0..ranges.len())
                .find_map(|vagueness| Some((quality(ranges[vagueness])?, ranges.len() - vagueness)))
        };
        let openmetrics = wish(["application/openmetrics-text", "application/*", "*/*"]);
        let prometheus = wish(["text/plain", "text/*", "*/*"]);
        if openmetrics > prometheus { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The value of `Content-Type`.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A media range with its quality, 1 unless it says less.
fn media_range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or("");
    let quality = parts.find_map(|parameter| parameter.strip_prefix(['q', 'Q'])?.strip_prefix('='));
    (name, quality.and_then(|text| text.parse().ok()).unwrap_or(1.0))
}

/// Writes an OpenMetrics page in the format of Prometheus. The samples are the
/// same; there a family has the name of its samples, other names for two types,
/// and neither a unit nor an end.
pub(super) fn prometheus(openmetrics: &str) -> String {
    let mut page = String::with_capacity(openmetrics.len());
    let mut help = "";
    for line in openmetrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            page.extend([line, "\n"]);
            continue;
        };
        if let Some(text) = comment.strip_prefix("HELP ") {
            help = text;
        } else if let Some((name, kind)) = comment.strip_prefix("TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            let help = help.strip_prefix(name).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = write!(page, "# HELP {name}{suffix}{help}\n# TYPE {name}{suffix} {kind}\n");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_prefer_it() {
        let wanted = |accept: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, value.parse().unwrap());
            }
            Format::wanted(&headers)
        };
        // The last two are what Prometheus 2 and 3 send.
        for accept in [
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; version=1.0.0",
            "text/plain;q=0.5, application/openmetrics-text",
            "application/*, text/plain;q=0.9",
            "*/*, application/openmetrics-text",
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                application/openmetrics-text;version=0.0.1;q=0.5,\
                text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ] {
            assert_eq!(wanted(&[accept]), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "text/plain",
            "text/plain;version=0.0.4",
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/openmetrics-text, text/plain",
            "application/openmetrics-text;q=0, */*",
            "application/openmetrics-text;q=0.5, text/plain;q=0.9",
            "application/json",
            "",
        ] {
            assert_eq!(wanted(&[accept]), Format::Prometheus, "{accept}");
        }
        assert_eq!(wanted(&[]), Format::Prometheus);
        assert_eq!(wanted(&["text/plain;q=0.1", "application/openmetrics-text"]), Format::OpenMetrics);
    }

    #[test]
    fn a_page_is_written_as_prometheus_has_it() {
        let openmetrics = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
            a_seconds_sum 0.5\na_seconds_count 1\na_seconds_bucket{le=\"+Inf\"} 1\n\
            # HELP b What.\n# TYPE b counter\nb_total{of=\"# EOF\"} 7\n\
            # HELP c The program.\n# TYPE c info\nc_info{version=\"1\"} 1\n\
            # HELP d Now.\n# TYPE d gauge\nd 3\n# EOF\n";
        let text = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\n\
            a_seconds_sum 0.5\na_seconds_count 1\na_seconds_bucket{le=\"+Inf\"} 1\n\
            # HELP b_total What.\n# TYPE b_total counter\nb_total{of=\"# EOF\"} 7\n\
            # HELP c_info The program.\n# TYPE c_info gauge\nc_info{version=\"1\"} 1\n\
            # HELP d Now.\n# TYPE d gauge\nd 3\n";
        assert_eq!(prometheus(openmetrics), text);
    }
}
