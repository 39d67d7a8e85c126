//! How a server is: ready or not, and what it measures.

use covey_api::{Findings, Readiness};
use reqwest::Method;

use crate::client::Client;
use crate::error::Result;

impl Client {
    /// Asks whether the server can do its work, and how its parts are. No API key is needed.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] with status 503 if it cannot, or the transport's.
    pub async fn ready(&self) -> Result<Readiness> {
        self.request(Method::GET, &["readyz"]).send().await?.json()
    }

    /// What is wrong around the server, as its last look found it. Needs the right `metrics:read`.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn findings(&self) -> Result<Findings<'static>> {
        self.request(Method::GET, &["api", "v1", "health", "findings"]).send().await?.json()
    }

    /// Everything that the server measures, as OpenMetrics text. Over plain HTTP no
    /// API key is needed, over HTTPS one with the right `metrics:read`. [`metric_value`] finds one value in it.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn metrics(&self) -> Result<String> {
        Ok(self.request(Method::GET, &["metrics"]).send().await?.into_text())
    }
}

/// One value of OpenMetrics text: the first sample with this name that has all
/// of these labels. A sample may have more.
#[must_use]
pub fn metric_value(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (has_labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => sample_labels(rest)?,
            None => (Vec::new(), rest),
        };
        let is_wanted =
            labels.iter().all(|(name, value)| has_labels.iter().any(|(has, is)| has == name && is == value));
        // What follows the value is a timestamp or an exemplar.
        let value = rest.strip_prefix(' ')?.split_ascii_whitespace().next()?;
        if is_wanted { value.parse().ok() } else { None }
    })
}

/// Reads labels up to the closing brace, and answers them with what follows it.
fn sample_labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix('}') {
            return Some((labels, end));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (at, '"') => break at,
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE covey_tasks gauge\n\
        covey_tasks{org=\"a\",status=\"READY\"} 3\n\
        covey_tasks{org=\"a\",status=\"DONE\"} 4.5 1700000000\n\
        covey_tasks_more 1\n\
        covey_up 1\n\
        odd{text=\"a\\\"b\\\\c\\nd}, e=\\\"1\"} 7\n\
        broken{a=\"b\n\
        # EOF\n";

    #[test]
    fn a_value_is_found_by_its_name_and_labels() {
        assert_eq!(metric_value(TEXT, "covey_tasks", &[("status", "READY")]), Some(3.0));
        assert_eq!(metric_value(TEXT, "covey_tasks", &[("status", "DONE"), ("org", "a")]), Some(4.5));
        assert_eq!(metric_value(TEXT, "covey_tasks", &[]), Some(3.0));
        assert_eq!(metric_value(TEXT, "covey_up", &[]), Some(1.0));
        assert_eq!(metric_value(TEXT, "odd", &[("text", "a\"b\\c\nd}, e=\"1")]), Some(7.0));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert_eq!(metric_value(TEXT, "covey_tasks", &[("status", "LOCK")]), None);
        assert_eq!(metric_value(TEXT, "covey_up", &[("a", "b")]), None);
        for name in ["covey", "broken", "", "# TYPE"] {
            assert_eq!(metric_value(TEXT, name, &[]), None, "{name:?}");
        }
    }
}
