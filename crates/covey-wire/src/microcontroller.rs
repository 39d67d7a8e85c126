//! Microcontrollers: devices with topics of their own. A call is published on `<name>/<api>`, its answer comes on
//! `server/<name>/<api>`, and behind that the number of the pin where the call is about one. Where a deployment has a
//! prefix, it stands in front of the name, and no answer names a pin.

use serde_json::value::RawValue;

use crate::json;
use crate::uplink::Malformed;

/// What the topics of answers begin with.
const ANSWERS: &str = "server";

/// The topics of all microcontrollers of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    prefix: Option<Box<str>>,
}

/// What a topic is on which a microcontroller publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published<'t> {
    /// None of its own.
    Foreign,
    /// Of its own, and nobody listens.
    Other,
    /// The answer to a call.
    Answer {
        /// The name of the call, which may be none.
        api: &'t str,
        /// The pin that it names.
        number: Option<u32>,
    },
}

impl Topics {
    /// Those without a prefix, or with this one, which is a level of a topic.
    #[must_use]
    pub fn new(prefix: Option<&str>) -> Self {
        Self { prefix: prefix.map(Into::into) }
    }

    /// Whether answers to calls about pins name the pin.
    #[must_use]
    pub fn are_numbered(&self) -> bool {
        self.prefix.is_none()
    }

    /// The topic on which a device is told of a call.
    #[must_use]
    pub fn request(&self, name: &str, api: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{name}/{api}"),
            None => format!("{name}/{api}"),
        }
    }

    /// What is below the topic of a device.
    fn below<'t>(&self, name: &str, topic: &'t str) -> Option<&'t str> {
        let topic = match &self.prefix {
            Some(prefix) => topic.strip_prefix(&**prefix)?.strip_prefix('/')?,
            None => topic,
        };
        topic.strip_prefix(name)?.strip_prefix('/')
    }

    /// What it is that a device publishes there.
    #[must_use]
    pub fn published<'t>(&self, name: &str, topic: &'t str) -> Published<'t> {
        let below = topic.strip_prefix(ANSWERS).and_then(|topic| topic.strip_prefix('/'));
        let Some(below) = below.and_then(|topic| self.below(name, topic)) else { return Published::Foreign };
        match below.split_once('/') {
            None => Published::Answer { api: below, number: None },
            Some((api, number)) if self.are_numbered() => match digits(number) {
                Some(number) => Published::Answer { api, number: Some(number) },
                None => Published::Other,
            },
            Some(_) => Published::Other,
        }
    }

    /// Whether a subscription lets a call through that is one of these; none if the device may not subscribe there: it
    /// may below its own topic. Wildcards follow MQTT 3.1.1 §4.7.1.
    #[must_use]
    pub fn subscription_reaches(&self, name: &str, filter: &str, apis: &[&str]) -> Option<bool> {
        let below = self.below(name, filter)?;
        let (level, rest) = below.split_once('/').map_or((below, None), |(level, rest)| (level, Some(rest)));
        // `x/#` also matches `x`.
        let is_whole = matches!(rest, None | Some("#"));
        let is_any = level == "+" || (level == "#" && rest.is_none());
        Some(is_whole && (is_any || apis.contains(&level)))
    }
}

/// A number of digits alone.
fn digits(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// An answer as a device sent it: the text of a JSON object that is nested at most so deeply.
///
/// # Errors
/// It is none.
pub fn read_answer(body: &[u8], levels_max: usize) -> Result<&str, Malformed> {
    let text = std::str::from_utf8(body).map_err(|_| Malformed::NotText)?;
    if json::levels(text) > levels_max {
        return Err(Malformed::TooDeep);
    }
    if !json::is_object(body) || serde_json::from_str::<&RawValue>(text).is_err() {
        return Err(Malformed::NotObject);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const APIS: [&str; 2] = ["get_gpio", "get_rtc"];

    #[test]
    fn a_device_publishes_answers_below_its_own_topic_alone() {
        let topics = Topics::default();
        assert_eq!(topics.request("ft1", "get_rtc"), "ft1/get_rtc");
        for (topic, expected) in [
            ("server/ft1/get_rtc", Published::Answer { api: "get_rtc", number: None }),
            ("server/ft1/get_gpio/12", Published::Answer { api: "get_gpio", number: Some(12) }),
            ("server/ft1/get_gpio/+12", Published::Other),
            ("server/ft1/get_gpio/12/", Published::Other),
            ("server/ft1/get_gpio/99999999999", Published::Other),
            ("server/ft1/", Published::Answer { api: "", number: None }),
            ("server/ft1", Published::Foreign),
            ("server/ft12/get_rtc", Published::Foreign),
            ("server/f/get_rtc", Published::Foreign),
            ("ft1/get_rtc", Published::Foreign),
            ("dev/ft1/res", Published::Foreign),
            ("srv/ft1/rsp", Published::Foreign),
            ("", Published::Foreign),
        ] {
            assert_eq!(topics.published("ft1", topic), expected, "{topic}");
        }
    }

    #[test]
    fn a_prefix_stands_in_front_of_the_name_and_answers_name_no_pin() {
        let topics = Topics::new(Some("acme"));
        assert_eq!(topics.request("ft1", "get_rtc"), "acme/ft1/get_rtc");
        for (topic, expected) in [
            ("server/acme/ft1/get_gpio", Published::Answer { api: "get_gpio", number: None }),
            ("server/acme/ft1/get_gpio/12", Published::Other),
            ("server/ft1/get_gpio", Published::Foreign),
            ("server/acmeft1/get_gpio", Published::Foreign),
        ] {
            assert_eq!(topics.published("ft1", topic), expected, "{topic}");
        }
        assert_eq!(topics.subscription_reaches("ft1", "acme/ft1/#", &APIS), Some(true));
        assert_eq!(topics.subscription_reaches("ft1", "ft1/#", &APIS), None);
    }

    #[test]
    fn a_device_subscribes_below_its_own_topic_alone() {
        let reaches = |filter| Topics::default().subscription_reaches("a", filter, &APIS);
        for filter in ["a/#", "a/+", "a/+/#", "a/get_rtc", "a/get_rtc/#"] {
            assert_eq!(reaches(filter), Some(true), "{filter}");
        }
        for filter in ["a/x", "a/get_rtc/x", "a/#/x"] {
            assert_eq!(reaches(filter), Some(false), "{filter}");
        }
        for filter in
            ["#", "+/#", "ab/#", "a", "srv/a/#", "server/a/#", "$share/g/a/#", "dev/a/#", "+/get_rtc"]
        {
            assert_eq!(reaches(filter), None, "{filter}");
        }
    }

    #[test]
    fn an_answer_is_an_object_and_stays_as_it_is() {
        for good in ["{}", r#" {"value": "1"} "#, r#"{"value":1,"value":2}"#] {
            assert_eq!(read_answer(good.as_bytes(), 4), Ok(good));
        }
        for (bad, why) in [
            (b"".as_slice(), Malformed::NotObject),
            (b"get_gpio", Malformed::NotObject),
            (b"[1]", Malformed::NotObject),
            (b"{\"value\":1", Malformed::NotObject),
            (b"{\"value\":1}}", Malformed::NotObject),
            (b"\xff", Malformed::NotText),
            (b"{\"a\":[[[[1]]]]}", Malformed::TooDeep),
        ] {
            assert_eq!(read_answer(bad, 4), Err(why), "{bad:?}");
        }
    }

    proptest! {
        /// Whatever a device publishes or asks to hear, it is below its own name, and its own name is below no other.
        #[test]
        fn nobody_reaches_the_topics_of_another(
            prefix in proptest::option::of("[a-c]{1,2}"),
            (own, other) in ("[ab]{1,3}", "[ab]{1,3}"),
            api in "(get_rtc|[+#ab/]{0,6})",
        ) {
            prop_assume!(own != other);
            let topics = Topics::new(prefix.as_deref());
            let request = topics.request(&other, &api);
            prop_assert_eq!(topics.subscription_reaches(&own, &request, &APIS), None);
            let foreign = format!("server/{request}");
            prop_assert_eq!(topics.published(&own, &foreign), Published::Foreign);
            let mine = topics.request(&own, "get_rtc");
            prop_assert_eq!(topics.subscription_reaches(&own, &mine, &APIS), Some(true));
            let answer = format!("server/{mine}");
            prop_assert_eq!(topics.published(&own, &answer), Published::Answer { api: "get_rtc", number: None });
        }
    }
}
