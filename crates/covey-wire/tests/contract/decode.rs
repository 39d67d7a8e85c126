//! What each message of the server means to a device, by table, and what is not of the contract.

use covey_wire::Downlink;
use covey_wire::downlink::{
    Announcement, Commit, Decoded, EventAnswer, Parameters, Properties, Undecodable, decode,
};
use uuid::Uuid;

const TASK: &str = "0195f3a1-5b7c-7d10-9c1e-aabbccddeeff";
const ZERO: &str = "00000000-0000-0000-0000-000000000000";

struct Message {
    downlink: Downlink,
    native: Option<&'static str>,
    user: &'static [(&'static str, &'static str)],
    expiry_s: Option<u32>,
    body: &'static str,
}

const EMPTY: Message = Message { downlink: Downlink::Rsp, native: None, user: &[], expiry_s: None, body: "" };

fn check(table: Vec<(&str, Message, Result<Decoded<'static>, Undecodable>)>) {
    for (what, message, expected) in table {
        let user: Vec<_> =
            message.user.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let properties = Properties {
            correlation_data: message.native.map(str::as_bytes),
            expiry_s: message.expiry_s,
            user: &user,
        };
        assert_eq!(decode(message.downlink, properties, message.body.as_bytes()), expected, "{what}");
    }
}

fn task() -> Uuid {
    Uuid::parse_str(TASK).unwrap()
}

fn parameters() -> Parameters<'static> {
    Parameters { task_id: task(), method_code: 51, method: None, expires_at_s: Some(1_060), expiry_s: None }
}

#[test]
fn a_response_is_a_task_or_nothing() {
    check(vec![
        (
            "a task with native correlation",
            Message { native: Some(TASK), user: &[("method_code", "51"), ("expires_at", "1060")], ..EMPTY },
            Ok(Decoded::Parameters(parameters())),
        ),
        (
            "a task with the user property alone, named",
            Message {
                user: &[
                    ("correlationData", TASK),
                    ("method_code", "20"),
                    ("method", "blink"),
                    ("expires_at", "1060"),
                ],
                expiry_s: Some(90),
                ..EMPTY
            },
            Ok(Decoded::Parameters(Parameters {
                method_code: 20,
                method: Some("blink"),
                expiry_s: Some(90),
                ..parameters()
            })),
        ),
        (
            "method code 0 is a method when there is a task",
            Message { native: Some(TASK), user: &[("method_code", "0"), ("expires_at", "1060")], ..EMPTY },
            Ok(Decoded::Parameters(Parameters { method_code: 0, ..parameters() })),
        ),
        (
            "native correlation that cannot be read counts as none",
            Message {
                native: Some("?"),
                user: &[("correlationData", TASK), ("method_code", "51"), ("expires_at", "1060")],
                ..EMPTY
            },
            Ok(Decoded::Parameters(parameters())),
        ),
        (
            "of properties with one name the first counts",
            Message {
                native: Some(TASK),
                user: &[("method_code", "51"), ("method_code", "52"), ("expires_at", "1060")],
                ..EMPTY
            },
            Ok(Decoded::Parameters(parameters())),
        ),
        (
            "nothing to do",
            Message {
                user: &[("method_code", "0"), ("correlationData", ZERO)],
                body: "{\"method_code\":0}",
                ..EMPTY
            },
            Ok(Decoded::NothingToDo),
        ),
        ("no correlation at all", EMPTY, Ok(Decoded::NothingToDo)),
        (
            "a task without a method code",
            Message { native: Some(TASK), ..EMPTY },
            Err(Undecodable::MethodCode),
        ),
        (
            "a method code out of range",
            Message { native: Some(TASK), user: &[("method_code", "70000")], ..EMPTY },
            Err(Undecodable::MethodCode),
        ),
    ]);
}

#[test]
fn announcements_commits_and_answers_say_what_they_are_about() {
    let tsk = Message { downlink: Downlink::Tsk, native: Some(TASK), ..EMPTY };
    let announced = |priority| Ok(Decoded::Announced(Announcement { task_id: task(), priority }));
    check(vec![
        (
            "an announcement with a priority",
            Message { body: "{\"id\":\"x\",\"header\":{\"priority\":7,\"ttl\":1}}", ..tsk },
            announced(Some(7)),
        ),
        ("an announcement whose body is unreadable", Message { body: "?", ..tsk }, announced(None)),
        (
            "an announcement of nothing",
            Message { native: Some(ZERO), ..tsk },
            Err(Undecodable::AnnouncementTask),
        ),
        (
            "a commit",
            Message {
                downlink: Downlink::Cmt,
                user: &[("correlationData", TASK), ("ext_id", "-3"), ("result_id", "42")],
                ..EMPTY
            },
            Ok(Decoded::Committed(Commit { task_id: task(), ext_id: Some(-3), result_id: Some(42) })),
        ),
        ("a commit of nothing", Message { downlink: Downlink::Cmt, ..EMPTY }, Err(Undecodable::CommitTask)),
        (
            "a stored event",
            Message {
                downlink: Downlink::Eva,
                user: &[("event_type_code", "13"), ("dev_event_id", "4294967295")],
                body: "{\"status\":\"success\"}",
                ..EMPTY
            },
            Ok(Decoded::EventAnswer(EventAnswer {
                dev_event_id: u32::MAX,
                type_code: Some(13),
                is_stored: true,
            })),
        ),
        (
            "an event that is not stored",
            Message {
                downlink: Downlink::Eva,
                user: &[("dev_event_id", "1")],
                body: "{\"status\":\"error\"}",
                ..EMPTY
            },
            Ok(Decoded::EventAnswer(EventAnswer { dev_event_id: 1, type_code: None, is_stored: false })),
        ),
        ("an eva of no event", Message { downlink: Downlink::Eva, ..EMPTY }, Err(Undecodable::DevEventId)),
    ]);
}
