//! RabbitMQ's management API, as far as the services need it: plain HTTP on loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::state::{Broker, Login};

const CALL_SECONDS_MAX: u64 = 60;
/// More than any answer that is asked for here.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The API of one node.
pub struct Management {
    port: u16,
    login: Login,
}

impl Management {
    /// The API of a broker's first node that answers.
    pub fn of(broker: &Broker) -> Result<Self> {
        broker
            .nodes
            .iter()
            .map(|node| Self::at(node.management, &broker.admin))
            .find(|api| api.get("overview").is_ok())
            .context("RabbitMQ does not answer; look at: cargo xtask services status")
    }

    /// The API at a port, which may not answer yet.
    pub fn at(port: u16, admin: &Login) -> Self {
        Self { port, login: admin.clone() }
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", path, Some(body))
    }

    /// Removes something that may be gone already.
    pub fn delete(&self, path: &str) -> Result<()> {
        match self.exchange("DELETE", path, None)? {
            (200..300 | 404, _) => Ok(()),
            (status, text) => bail!("RabbitMQ answers {status} to DELETE {path}: {text}"),
        }
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, text) = self.exchange(method, path, body)?;
        if !(200..300).contains(&status) {
            bail!("RabbitMQ answers {status} to {method} {path}: {text}");
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("RabbitMQ's answer to {path} is no JSON"))
    }

    /// One request on a connection of its own. HTTP/1.0, so that the answer is
    /// not chunked and ends with the connection (RFC 9112, 6.3).
    fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, String)> {
        let bound = Duration::from_secs(CALL_SECONDS_MAX);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect_timeout(&address, bound)
            .with_context(|| format!("RabbitMQ's management does not answer at {address}"))?;
        stream.set_read_timeout(Some(bound))?;
        stream.set_write_timeout(Some(bound))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let Login { user, password } = &self.login;
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        let head = format!(
            "{method} /api/{path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Basic {credentials}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        parse(&String::from_utf8_lossy(&answer)).context("RabbitMQ's management does not speak HTTP")
    }
}

/// Status and body of an answer.
fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(answer), Some((201, "{}".to_owned())));
        for broken in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"] {
            assert_eq!(parse(broken), None, "{broken:?}");
        }
    }
}
