//! What a handler gives back: a status code, a number of the application's own, and a body.

use bytes::Bytes;
use serde::Serialize;

/// Status code of a partial result. It keeps the task open, so no final answer may carry it.
pub(crate) const STATUS_PARTIAL: u16 = 206;

/// The answer to a call. Codes below 400 make the task DONE, 400 and up FAILED.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub(crate) status: u16,
    pub(crate) ext_id: i64,
    pub(crate) body: Bytes,
    pub(crate) is_sent_twice: bool,
}

impl Answer {
    /// 200 with a JSON body. A value that cannot be written as JSON (a map with keys that are no
    /// strings) becomes 500 with the reason.
    #[must_use]
    pub fn ok(value: impl Serialize) -> Self {
        match serde_json::to_vec(&value) {
            Ok(json) => Self::new(200, Bytes::from(json)),
            Err(error) => Self::error(500, error.to_string()),
        }
    }

    /// 200 with no body.
    #[must_use]
    pub fn empty() -> Self {
        Self::new(200, Bytes::new())
    }

    /// 200 with a text. The application sees a string, also when the text happens to be JSON
    /// (such a text is sent as a JSON string, any other as it is).
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        if is_json {
            return Self::ok(text);
        }
        Self::new(200, Bytes::from(text))
    }

    /// A failure: `{"error": text}` with a status code of 400 or more.
    #[must_use]
    pub fn error(status: u16, text: impl AsRef<str>) -> Self {
        let body = serde_json::json!({ "error": text.as_ref() }).to_string();
        Self::new(status, Bytes::from(body))
    }

    /// Sets the status code. 206 means a partial result ([`Call::progress`](crate::Call::progress))
    /// and is replaced by 200 here.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = final_status(status);
        self
    }

    /// Sets the application's own number of this result (default 0).
    #[must_use]
    pub fn with_ext_id(mut self, ext_id: i64) -> Self {
        self.ext_id = ext_id;
        self
    }

    /// Sends the answer twice, as a network that repeats would: for simulators and tests of a
    /// server, which stores it once. A journal on disk does not keep this.
    #[must_use]
    pub fn sent_twice(mut self) -> Self {
        self.is_sent_twice = true;
        self
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The application's own number of this result.
    #[must_use]
    pub fn ext_id(&self) -> i64 {
        self.ext_id
    }

    /// The body as it goes over the wire.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    fn new(status: u16, body: Bytes) -> Self {
        Self { status: final_status(status), ext_id: 0, body, is_sent_twice: false }
    }
}

/// Lets a handler use `?`: `Ok(answer)` is the answer, `Err(error)` what the error becomes.
impl<E: Into<Answer>> From<Result<Answer, E>> for Answer {
    fn from(result: Result<Answer, E>) -> Self {
        result.unwrap_or_else(Into::into)
    }
}

fn final_status(status: u16) -> u16 {
    if status == STATUS_PARTIAL { 200 } else { status }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_a_text() {
        assert_eq!(Answer::text("on").body(), b"on");
        assert_eq!(Answer::text("12").body(), b"\"12\"");
        assert_eq!(Answer::text("{}").body(), b"\"{}\"");
    }

    #[test]
    fn a_final_answer_never_says_partial() {
        assert_eq!(Answer::empty().with_status(206).status(), 200);
        assert_eq!(Answer::error(206, "x").status(), 200);
    }
}
