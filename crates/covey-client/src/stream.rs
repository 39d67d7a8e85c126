//! The stream of changes, as server-sent events (WHATWG HTML §9.2).

use std::time::Duration;

use reqwest::Method;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::client::Client;
use crate::error::{Error, Result};

/// For how long a stream may be silent before it is given up: the server says
/// every 15 seconds that it lives.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest message that is taken, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Which changes are wanted; all, if nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamFilter {
    /// Those of the devices with these numbers.
    pub device_ids: Vec<i64>,
    /// Those of devices with these tags: `NAME` or `NAME=VALUE`.
    pub tags: Vec<String>,
    /// Those of these kinds: task, result, event, presence, twin.
    pub kinds: Vec<String>,
    /// Of events, those of these types.
    pub event_types: Vec<i64>,
}

/// A change.
#[derive(Clone, Debug)]
pub struct Told {
    /// The cursor after it.
    pub id: Option<String>,
    /// Its kind; `end` is the last message of a stream that the server ends.
    pub kind: String,
    /// The change, as JSON.
    pub data: Box<RawValue>,
}

/// A stream that is open.
pub struct Stream {
    response: reqwest::Response,
    base_url: String,
    buffer: Vec<u8>,
    fields: Fields,
    cursor: Option<String>,
}

/// The fields of a message that is coming in.
#[derive(Default)]
struct Fields {
    id: Option<String>,
    kind: Option<String>,
    data: String,
}

impl Client {
    /// Opens the stream of changes: those after `cursor`, or those from now on.
    ///
    /// # Errors
    /// A refusal (410 if what came after the cursor is not kept any more), or the transport's.
    pub async fn stream(&self, filter: &StreamFilter, cursor: Option<&str>) -> Result<Stream> {
        let mut request = self.request(Method::GET, &["api", "v1", "stream"]).query_if("cursor", cursor);
        for id in &filter.device_ids {
            request = request.query("device_id", id);
        }
        for (name, values) in [("tag", &filter.tags), ("kind", &filter.kinds)] {
            for value in values {
                request = request.query(name, value);
            }
        }
        for code in &filter.event_types {
            request = request.query("event_type_code", code);
        }
        let response = request.open().await?;
        Ok(Stream {
            response,
            base_url: self.base_url().to_owned(),
            buffer: Vec::new(),
            fields: Fields::default(),
            cursor: cursor.map(str::to_owned),
        })
    }
}

impl Stream {
    /// The cursor after the last change that was given: where to go on.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The next change; none when the stream has ended.
    ///
    /// # Errors
    /// The transport's, a silence that is too long among them, or an answer
    /// that is no stream.
    pub async fn next(&mut self) -> Result<Option<Told>> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if let Some(told) = self.line(line.trim_end_matches(['\r', '\n']))? {
                    return Ok(Some(told));
                }
            }
            let chunk = timeout(SILENCE_MAX, self.response.chunk()).await;
            let chunk = chunk.map_err(|_| Error::Silent { url: self.base_url.clone() })?;
            match chunk.map_err(|source| Error::from_transport(&self.base_url, source))? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
            if self.buffer.len() + self.fields.data.len() > MESSAGE_BYTES_MAX {
                let (url, bytes_max) = (self.base_url.clone(), MESSAGE_BYTES_MAX);
                return Err(Error::AnswerTooLarge { url, bytes_max });
            }
        }
    }

    /// Takes a line; an empty one ends a message.
    fn line(&mut self, line: &str) -> Result<Option<Told>> {
        if !line.is_empty() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "id" => self.fields.id = Some(value.to_owned()),
                "event" => self.fields.kind = Some(value.to_owned()),
                "data" => self.fields.data.push_str(value),
                _ => {}
            }
            return Ok(None);
        }
        let Fields { id, kind, data } = std::mem::take(&mut self.fields);
        if let Some(id) = &id {
            self.cursor = Some(id.clone());
        }
        if data.is_empty() {
            return Ok(None);
        }
        let data = serde_json::from_str(&data)
            .map_err(|source| Error::Answer { url: self.base_url.clone(), source })?;
        Ok(Some(Told { id, kind: kind.unwrap_or_else(|| "message".to_owned()), data }))
    }
}
