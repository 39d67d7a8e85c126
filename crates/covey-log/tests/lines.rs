//! Lines as they come out, whoever writes them.

#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::{Arc, Mutex};

use covey_log::{Form, Lines, PEER_LINES_MAX, PLACE_LINES_MAX, VALUE_CHARS_MAX};
use tracing_subscriber::prelude::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged meanwhile, line by line.
fn logged(form: Form, act: impl FnOnce()) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .event_format(Lines::new(form));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), act);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

const TOPIC: &str = "dev/x\n2026-11-30T00:00:00Z ERROR forged\u{1b}[2J\r\u{202e}\"";

#[test]
fn a_line_for_people_has_time_level_message_and_fields() {
    let lines = logged(Form::Text, || {
        tracing::warn!(sn = %"a-1", why = "so", count = 3, is_up = false, "message refused");
    });
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
    assert_eq!(rest, " WARN message refused sn=a-1 why=\"so\" count=3 is_up=false");
}

#[test]
fn nobody_forges_a_line() {
    let said = TOPIC;
    for form in [Form::Text, Form::Json] {
        let lines = logged(form, || tracing::warn!(topic = said, shown = %said, "{said}"));
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(!line.chars().any(|char| char.is_control() || char == '\u{202e}'), "{line:?}");
        assert!(line.contains("forged"), "{line}");
        if form == Form::Json {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let topic = value["topic"].as_str().unwrap();
            assert!(!topic.chars().any(char::is_control), "{topic:?}: also where JSON was read");
            assert_eq!((&value["topic"], &value["level"]), (&value["shown"], &"WARN".into()));
            assert_eq!(value["target"], "lines");
        }
    }
}

#[test]
fn nobody_forges_a_field() {
    let said = r#"a\" sn="b"#;
    let lines = logged(Form::Text, || tracing::warn!(topic = said, "message refused"));
    assert!(lines[0].ends_with(r#" topic="a\\\" sn=\"b""#), "{}", lines[0]);
}

#[test]
fn a_long_value_is_cut() {
    let long = "ä".repeat(60_000);
    let lines = logged(Form::Text, || tracing::warn!(topic = long, "message refused"));
    let expected = format!("topic=\"{}…\"", "ä".repeat(VALUE_CHARS_MAX));
    assert!(lines[0].ends_with(&expected), "{}", lines[0]);
}

#[test]
fn a_peer_and_all_peers_together_have_few_lines_and_the_next_one_counts_what_was_left_out() {
    let refused = |address: &str| tracing::warn!(%address, "connection refused");
    let lines = logged(Form::Text, || {
        for port in 0..500 {
            refused(&format!("192.0.2.1:{port}"));
        }
    });
    assert_eq!(lines.len() as u64, PEER_LINES_MAX, "another port is not another peer");
    let lines = logged(Form::Json, || {
        for peer in 0..2_000 {
            refused(&format!("10.0.{}.{}:7", peer / 250, peer % 250));
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        refused("192.0.2.9:1");
    });
    let count = lines.len() as u64;
    assert!((PLACE_LINES_MAX..PLACE_LINES_MAX + 30).contains(&count), "{count}");
    let read = |line: &String| -> serde_json::Value { serde_json::from_str(line).unwrap() };
    let left_out: u64 = lines.iter().map(|line| read(line)["left_out"].as_u64().unwrap_or(0)).sum();
    assert_eq!(left_out + count, 2_001);
    assert_eq!(read(lines.last().unwrap())["address"], "192.0.2.9:1");
}
