//! The messages of `/ws` and `/gw`: JSON objects whose `type` is `new`, `update`, `out` or `reset`
//! (`docs/gateways-broker.md`). Values stay the JSON text as which they came.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::value::text_of;

/// Longest uid of a node, in bytes.
/// Limit for each node: what is said of it is dropped, and logged.
pub const UID_BYTES_MAX: usize = 128;
/// To whom a message goes that is for all.
pub const ALL: &str = "all";
/// What stands for a uid where a gateway says that it is there.
const ALIVE: &str = "alive";

/// A text as JSON, written without a copy of it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let mut rest = self.0;
        while let Some(place) = rest.find(|letter: char| matches!(letter, '"' | '\\' | '\0'..='\x1f')) {
            f.write_str(&rest[..place])?;
            match rest.as_bytes()[place] {
                b'"' => f.write_str("\\\"")?,
                b'\\' => f.write_str("\\\\")?,
                control => write!(f, "\\u{control:04x}")?,
            }
            rest = &rest[place + 1..];
        }
        f.write_str(rest)?;
        f.write_char('"')
    }
}

/// A node is there.
#[must_use]
pub fn new(uid: &str, dst: &str) -> String {
    format!(r#"{{"type": "new", "uid": {}, "dst": {}}}"#, Quoted(uid), Quoted(dst))
}

/// A resource of a node is this JSON text.
#[must_use]
pub fn update(uid: &str, endpoint: &str, data: &str, dst: &str) -> String {
    let (uid, endpoint, dst) = (Quoted(uid), Quoted(endpoint), Quoted(dst));
    format!(r#"{{"type": "update", "uid": {uid}, "endpoint": {endpoint}, "data": {data}, "dst": {dst}}}"#)
}

/// A node has begun anew.
#[must_use]
pub fn reset(uid: &str) -> String {
    format!(r#"{{"type": "reset", "uid": {}}}"#, Quoted(uid))
}

/// A node is gone.
#[must_use]
pub fn out(uid: &str) -> String {
    format!(r#"{{"type": "out", "uid": {}}}"#, Quoted(uid))
}

/// A gateway is there.
#[must_use]
pub fn alive() -> String {
    format!(r#"{{"type": "update", "uid": "{ALIVE}"}}"#)
}

/// To a gateway: a client wants to know all nodes.
#[must_use]
pub fn ask(src: &str) -> String {
    format!(r#"{{"type": "new", "src": {}}}"#, Quoted(src))
}

/// To a gateway: a client sets a resource to this JSON text.
#[must_use]
pub fn set(uid: &str, endpoint: &str, payload: &str, src: &str) -> String {
    let (uid, endpoint, src) = (Quoted(uid), Quoted(endpoint), Quoted(src));
    format!(
        r#"{{"type": "update", "data": {{"uid": {uid}, "endpoint": {endpoint}, "payload": {payload}}}, "src": {src}}}"#
    )
}

/// A message that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMessage(pub &'static str);

/// A resource that is to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Of which node.
    pub uid: String,
    /// Which resource.
    pub endpoint: String,
    /// To what, as JSON text.
    pub payload: Arc<str>,
}

/// What a client says; to a gateway its broker, with the client's uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient {
    /// It wants to know all nodes.
    New,
    /// It sets a resource.
    Set(Set),
    /// What asks for nothing: `out`, `reset`, or an `update` whose data is not that of a resource.
    Nothing,
}

/// What a gateway says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromGateway {
    /// A node is there.
    New {
        /// Which.
        uid: String,
        /// Who is to hear it; none if all are.
        dst: Option<String>,
    },
    /// A resource of a node is this.
    Update {
        /// Of which node.
        uid: String,
        /// Which resource.
        endpoint: String,
        /// What it is, as JSON text.
        data: Arc<str>,
        /// Who is to hear it; none if all are.
        dst: Option<String>,
    },
    /// A node has begun anew.
    Reset {
        /// Which.
        uid: String,
    },
    /// A node is gone.
    Out {
        /// Which.
        uid: String,
    },
    /// The gateway is there.
    Alive,
}

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// The members of an object; of two that have one name the later.
fn members(text: &str) -> Result<Members<'_>, NoMessage> {
    serde_json::from_str(text).map_err(|_| NoMessage("not a JSON object"))
}

fn kind(members: &Members<'_>) -> Result<String, NoMessage> {
    let kind = members.get("type").and_then(|kind| serde_json::from_str::<String>(kind.get()).ok());
    kind.ok_or(NoMessage("the type is not new, update, out or reset"))
}

fn text(members: &Members<'_>, name: &str) -> Option<String> {
    members.get(name).and_then(|value| serde_json::from_str(value.get()).ok())
}

/// A uid is text; who writes it as a number means its digits.
fn uid(members: &Members<'_>) -> Option<String> {
    let uid = text_of(members.get("uid")?.get());
    let is_uid = (1..=UID_BYTES_MAX).contains(&uid.len()) && !uid.starts_with(['{', '[']);
    (is_uid && !uid.chars().any(char::is_control)).then(|| uid.into_owned())
}

/// Reads what a client says.
///
/// # Errors
/// Why it is no message: the client is closed with 1003.
pub fn from_client(message: &str) -> Result<FromClient, NoMessage> {
    let members = members(message)?;
    match &*kind(&members)? {
        "new" => Ok(FromClient::New),
        "update" => {
            Ok(members.get("data").and_then(|data| set_of(data)).map_or(FromClient::Nothing, FromClient::Set))
        }
        "out" | "reset" => Ok(FromClient::Nothing),
        _ => Err(NoMessage("the type is not new, update, out or reset")),
    }
}

/// What is to be set, if the data has these three members and no other.
fn set_of(data: &RawValue) -> Option<Set> {
    let members = members(data.get()).ok().filter(|members| members.len() == 3)?;
    let payload = Arc::from(members.get("payload")?.get());
    Some(Set { uid: uid(&members)?, endpoint: text(&members, "endpoint")?, payload })
}

/// Reads what a broker passes on to a gateway, and whose message it is.
///
/// # Errors
/// Why it is no message.
pub fn from_broker(message: &str) -> Result<(FromClient, Option<String>), NoMessage> {
    let said = from_client(message)?;
    Ok((said, text(&members(message)?, "src")))
}

/// Reads what a gateway says.
///
/// # Errors
/// Why it is no message.
pub fn from_gateway(message: &str) -> Result<FromGateway, NoMessage> {
    let members = members(message)?;
    let kind = kind(&members)?;
    let uid =
        uid(&members).ok_or(NoMessage("the uid is not 1 to 128 bytes of text without control characters"))?;
    let dst = text(&members, "dst").filter(|dst| dst != ALL);
    match &*kind {
        "new" => Ok(FromGateway::New { uid, dst }),
        "update" => match (text(&members, "endpoint"), members.get("data")) {
            (Some(endpoint), Some(data)) => {
                Ok(FromGateway::Update { uid, endpoint, data: data.get().into(), dst })
            }
            _ if uid == ALIVE => Ok(FromGateway::Alive),
            _ => Err(NoMessage("an update has no endpoint or no data")),
        },
        "reset" => Ok(FromGateway::Reset { uid }),
        "out" => Ok(FromGateway::Out { uid }),
        _ => Err(NoMessage("the type is not new, update, out or reset")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn messages_are_written_as_others_write_them() {
        assert_eq!(new("1234", ALL), r#"{"type": "new", "uid": "1234", "dst": "all"}"#);
        assert_eq!(
            update("1234", "led", r#""0""#, "c"),
            r#"{"type": "update", "uid": "1234", "endpoint": "led", "data": "0", "dst": "c"}"#
        );
        assert_eq!(reset("1234"), r#"{"type": "reset", "uid": "1234"}"#);
        assert_eq!(out("1234"), r#"{"type": "out", "uid": "1234"}"#);
        assert_eq!(alive(), r#"{"type": "update", "uid": "alive"}"#);
        assert_eq!(ask("c"), r#"{"type": "new", "src": "c"}"#);
        assert_eq!(
            set("1234", "led", "1", "c"),
            r#"{"type": "update", "data": {"uid": "1234", "endpoint": "led", "payload": 1}, "src": "c"}"#
        );
    }

    #[test]
    fn a_client_sets_a_resource_with_three_members_and_no_other() {
        let set = |data: &str| from_client(&format!(r#"{{"type":"update","data":{data}}}"#)).unwrap();
        assert_eq!(
            set(r#"{"uid":"7","endpoint":"led","payload":"1"}"#),
            FromClient::Set(Set { uid: "7".into(), endpoint: "led".into(), payload: r#""1""#.into() })
        );
        let FromClient::Set(Set { payload, .. }) =
            set(r#"{"uid":7,"endpoint":"led","payload": {"a" : [1]} }"#)
        else {
            unreachable!("it is one")
        };
        assert_eq!(&*payload, r#"{"a" : [1]}"#, "as it came");
        for other in [
            r#"{"uid":"7","endpoint":"led"}"#,
            r#"{"uid":"7","payload":"1"}"#,
            r#"{"endpoint":"led","payload":"1"}"#,
            r#"{"uid":"7","endpoint":"led","payload":"1","extra":1}"#,
            r#"{"uid":"","endpoint":"led","payload":"1"}"#,
            r#"{"uid":"7","endpoint":5,"payload":"1"}"#,
            "[]",
            "null",
            r#""led""#,
        ] {
            assert_eq!(set(other), FromClient::Nothing, "{other}");
        }
        assert_eq!(from_client(r#"{"type":"update"}"#), Ok(FromClient::Nothing));
        assert_eq!(from_client(r#"{"type":"new","data":"client","x":1}"#), Ok(FromClient::New));
        for ignored in ["out", "reset"] {
            assert_eq!(from_client(&format!(r#"{{"type":"{ignored}"}}"#)), Ok(FromClient::Nothing));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            "",
            "x",
            "1",
            "null",
            "[]",
            r#"["new"]"#,
            r#""new""#,
            "{}",
            r#"{"type":"old"}"#,
            r#"{"type":null}"#,
            r#"{"type":["new"]}"#,
            r#"{"type":"NEW"}"#,
            r#"{"data":"client"}"#,
            r#"{"type":"new"} x"#,
            "{'type':'new'}",
            r#"{"type":"update","data":NaN}"#,
        ] {
            assert!(from_client(bad).is_err(), "{bad}");
            assert!(from_gateway(bad).is_err(), "{bad}");
        }
        for bad in [
            r#"{"type":"new"}"#,
            r#"{"type":"new","uid":""}"#,
            r#"{"type":"new","uid":"a\nb"}"#,
            r#"{"type":"new","uid":{}}"#,
            r#"{"type":"update","uid":"7","endpoint":"led"}"#,
            r#"{"type":"update","uid":"7","data":"led"}"#,
        ] {
            assert!(from_gateway(bad).is_err(), "{bad}");
        }
        assert!(from_gateway(&new(&"x".repeat(129), ALL)).is_err());
    }

    #[test]
    fn what_a_gateway_says_is_read() {
        let read = |message: &str| from_gateway(message).unwrap();
        assert_eq!(read(&new("7", ALL)), FromGateway::New { uid: "7".into(), dst: None });
        assert_eq!(read(&new("7", "c")), FromGateway::New { uid: "7".into(), dst: Some("c".into()) });
        assert_eq!(read(r#"{"type":"new","uid":"7"}"#), FromGateway::New { uid: "7".into(), dst: None });
        assert_eq!(read(&alive()), FromGateway::Alive);
        assert_eq!(read(&reset("7")), FromGateway::Reset { uid: "7".into() });
        assert_eq!(read(&out("7")), FromGateway::Out { uid: "7".into() });
        assert_eq!(
            from_broker(&set("7", "led", "1", "c")).unwrap(),
            (
                FromClient::Set(Set { uid: "7".into(), endpoint: "led".into(), payload: "1".into() }),
                Some("c".into())
            )
        );
        assert_eq!(from_broker(&ask("c")).unwrap(), (FromClient::New, Some("c".into())));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever names and values are: what is written is JSON, and is read again as what it was.
        #[test]
        fn what_is_written_is_read_again(uid in "[^\\p{Cc}{\\[]{1,40}", endpoint in any::<String>(), data in json(), dst in any::<String>()) {
            let data = data.to_string();
            prop_assume!(dst != ALL && uid.len() <= UID_BYTES_MAX);
            let written = update(&uid, &endpoint, &data, &dst);
            let value: Value = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(&value["endpoint"], &Value::from(endpoint.clone()));
            let read = from_gateway(&written).unwrap();
            let said = FromGateway::Update {
                uid: uid.clone(), endpoint: endpoint.clone(), data: data.as_str().into(), dst: Some(dst.clone()),
            };
            prop_assert_eq!(read, said);
            let (read, src) = from_broker(&set(&uid, &endpoint, &data, &dst)).unwrap();
            prop_assert_eq!(read, FromClient::Set(Set { uid, endpoint, payload: data.as_str().into() }));
            prop_assert_eq!(src, Some(dst));
        }

        /// Rubbish is refused, and nothing else happens.
        #[test]
        fn rubbish_is_refused(text in any::<String>(), members in proptest::collection::btree_map("type|uid|data|dst|endpoint", json(), 0..5)) {
            let _ = (from_client(&text), from_gateway(&text), from_broker(&text));
            let object = serde_json::to_string(&members).unwrap();
            if let Ok(FromClient::Set(set)) = from_client(&object) {
                prop_assert!(!set.uid.is_empty());
            }
            let _ = (from_gateway(&object), from_broker(&object));
        }
    }
}
