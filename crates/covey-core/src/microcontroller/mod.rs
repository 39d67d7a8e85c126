//! Microcontrollers: devices with six calls of their own, which know nothing of tasks
//! (`docs/adr/0029-microcontrollers-over-http.md`). A call is a task like any other; the link that reaches such a device
//! asks for what it is to be told, and ends the task with what it answers.

mod calls;
mod operation;

pub use calls::OwnMicrocontroller;
pub use operation::{
    MicrocontrollerCall, MicrocontrollerNext, MicrocontrollerRegister, MicrocontrollerRetire, NextCall,
};

use crate::json;
use crate::named::named;

/// How long a microcontroller has for its answer, from when it is told of a call, in milliseconds.
/// Limit for each call: the task ends with 504.
pub const ANSWER_MS_MAX: i64 = 5_000;
/// How many certificates of a microcontroller are good at the same time: each registration makes one.
/// Limit for each microcontroller: the oldest one is revoked.
pub const CERTIFICATES_MAX: u32 = 64;
/// Longest parameters of a call, in bytes of JSON text.
/// Limit for each call: 400.
pub const PARAMETERS_BYTES_MAX: usize = 4 * 1024;
/// Longest answer to a call, in bytes.
/// Limit for each answer: it is counted, and does not end its call.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How deeply an answer may be nested.
/// Limit for each answer: it is counted, and does not end its call.
pub const ANSWER_LEVELS_MAX: usize = 64;

named! {
    /// The calls, by the names that methods of tasks, topics and paths have.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Api {
        /// The value of a pin.
        GetGpio => "get_gpio",
        /// Sets a pin.
        SetGpio => "set_gpio",
        /// The clock, in Unix seconds.
        GetRtc => "get_rtc",
        /// Sets the clock.
        SetRtc => "set_rtc",
        /// The state.
        GetStatus => "get_status",
        /// Asks for a state, such as `restart`.
        SetStatus => "set_status",
    }
}

/// What a call has among its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    /// The number of a pin.
    Number,
    /// A whole number.
    Value,
    /// A word.
    Status,
}

impl Parameter {
    const fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Value => "value",
            Self::Status => "status",
        }
    }

    /// Its JSON as it goes to the device: numbers may come as digits in a string.
    fn read(self, value: &str) -> Result<String, &'static str> {
        let digits = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::Number => {
                let number = digits.parse::<u32>().ok().filter(|_| is_number && sign.is_empty());
                number
                    .map(|number| number.to_string())
                    .ok_or("number must be 0 to 4294967295, also as digits in a string")
            }
            Self::Value => {
                let value = format!("{sign}{digits}").parse::<i64>().ok().filter(|_| is_number);
                value
                    .map(|value| value.to_string())
                    .ok_or("value must be a whole number, also as digits in a string")
            }
            Self::Status if value.starts_with('"') => Ok(value.to_owned()),
            Self::Status => Err("status must be a string"),
        }
    }
}

impl Api {
    /// What it takes, in the order in which it goes to the device.
    const fn parameters(self) -> &'static [Parameter] {
        match self {
            Self::GetGpio => &[Parameter::Number],
            Self::SetGpio => &[Parameter::Number, Parameter::Value],
            Self::SetRtc => &[Parameter::Value],
            Self::SetStatus => &[Parameter::Status],
            Self::GetRtc | Self::GetStatus => &[],
        }
    }
}

/// By what the answer to a call is known: there is one call at a time for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AnswerKey {
    /// Which call it is.
    pub api: Api,
    /// The pin, where answers name it.
    pub number: Option<u32>,
}

/// A call with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which one.
    pub api: Api,
    /// The pin, if it is about one.
    pub number: Option<u32>,
    /// The parameters as they go to the device: a JSON object.
    pub parameters: String,
}

impl Request {
    /// Reads the parameters of a call, which are JSON text, or none. Members that the call does not take go along as
    /// they stand there.
    ///
    /// # Errors
    /// What is wrong, in words for whoever made the call.
    pub fn read(api: Api, parameters: Option<&str>) -> Result<Self, &'static str> {
        let given = parameters.filter(|text| text.trim_ascii() != "null").unwrap_or("{}");
        if given.len() > PARAMETERS_BYTES_MAX {
            return Err("the parameters must be at most 4096 bytes of JSON");
        }
        let members = json::members(given).ok_or("the parameters must be an object")?;
        let mut read: Vec<(&str, String)> = Vec::new();
        for parameter in api.parameters() {
            let found = members.iter().rfind(|(name, _)| name == parameter.name());
            let (_, value) = found.ok_or(match parameter {
                Parameter::Number => "number is missing",
                Parameter::Value => "value is missing",
                Parameter::Status => "status is missing",
            })?;
            read.push((parameter.name(), parameter.read(value)?));
        }
        let number = read.iter().find(|(name, _)| *name == Parameter::Number.name());
        let number = number.and_then(|(_, value)| value.parse().ok());
        for (place, (name, value)) in members.iter().enumerate() {
            let is_last = members[place + 1..].iter().all(|(later, _)| later != name);
            if !is_last || read.iter().any(|(known, _)| known == name) {
                continue;
            }
            if name.chars().any(|c| c.is_control() || matches!(c, '"' | '\\')) {
                return Err("the name of a parameter must not need escapes");
            }
            read.push((name, (*value).to_owned()));
        }
        let parameters: Vec<_> = read.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        Ok(Self { api, number, parameters: format!("{{{}}}", parameters.join(", ")) })
    }

    /// By what its answer is known. `is_numbered`: answers to calls about pins name the pin.
    #[must_use]
    pub fn key(&self, is_numbered: bool) -> AnswerKey {
        AnswerKey { api: self.api, number: self.number.filter(|_| is_numbered) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn read(api: Api, parameters: &str) -> Result<String, &'static str> {
        Request::read(api, Some(parameters)).map(|request| request.parameters)
    }

    #[test]
    fn a_call_goes_to_the_device_as_its_contract_has_it() {
        for (api, given, expected) in [
            (Api::GetGpio, r#"{"number":12}"#, r#"{"number": 12}"#),
            (Api::GetGpio, r#"{"number":"012"}"#, r#"{"number": 12}"#),
            (Api::SetGpio, r#"{"value":"0","number":12}"#, r#"{"number": 12, "value": 0}"#),
            (Api::SetGpio, r#"{"number":1,"value":-1,"number":2}"#, r#"{"number": 2, "value": -1}"#),
            (Api::SetRtc, r#"{"value":1560937415}"#, r#"{"value": 1560937415}"#),
            (Api::SetStatus, r#"{"status":"restart"}"#, r#"{"status": "restart"}"#),
            (Api::GetRtc, "{}", "{}"),
            (Api::GetStatus, r#" { "why" : {"a": [1,2]} } "#, r#"{"why": {"a": [1,2]}}"#),
        ] {
            assert_eq!(read(api, given).as_deref(), Ok(expected), "{given}");
        }
        assert_eq!(Request::read(Api::GetRtc, None).unwrap().parameters, "{}");
        assert_eq!(Request::read(Api::GetRtc, Some("null")).unwrap().parameters, "{}");
    }

    #[test]
    fn what_is_no_call_is_refused_with_what_is_wrong() {
        let long = format!(r#"{{"number":1,"more":"{}"}}"#, "x".repeat(PARAMETERS_BYTES_MAX));
        for (api, given, expected) in [
            (Api::GetGpio, "{}", "missing"),
            (Api::GetGpio, r#"{"number":"twelve"}"#, "number must"),
            (Api::GetGpio, r#"{"number":-1}"#, "number must"),
            (Api::GetGpio, r#"{"number":4294967296}"#, "number must"),
            (Api::GetGpio, r#"{"number":1.0}"#, "number must"),
            (Api::GetGpio, r#"{"number":""}"#, "number must"),
            (Api::GetGpio, r#"{"number":true}"#, "number must"),
            (Api::SetGpio, r#"{"number":1}"#, "value is missing"),
            (Api::SetGpio, r#"{"number":1,"value":"--1"}"#, "value must"),
            (Api::SetRtc, r#"{"value":99999999999999999999}"#, "value must"),
            (Api::SetStatus, r#"{"status":1}"#, "status must"),
            (Api::GetRtc, "[]", "object"),
            (Api::GetRtc, r#"{"a\"b":1}"#, "escapes"),
            (Api::GetGpio, &long, "4096"),
        ] {
            let error = read(api, given).unwrap_err();
            assert!(error.contains(expected), "{given}: {error}");
        }
    }

    #[test]
    fn an_answer_names_the_pin_where_it_may() {
        let request = Request::read(Api::GetGpio, Some(r#"{"number":12}"#)).unwrap();
        assert_eq!(request.key(true), AnswerKey { api: Api::GetGpio, number: Some(12) });
        assert_eq!(request.key(false), AnswerKey { api: Api::GetGpio, number: None });
        let request = Request::read(Api::GetRtc, None).unwrap();
        assert_eq!(request.key(true), AnswerKey { api: Api::GetRtc, number: None });
    }

    proptest! {
        /// What goes out is an object with what came in, read the same again.
        #[test]
        fn parameters_that_were_read_are_read_the_same_again(
            number in any::<u32>(),
            value in any::<i64>(),
            is_text in any::<bool>(),
            extra in "[a-m]{0,8}",
        ) {
            let quote = if is_text { "\"" } else { "" };
            let given = format!(r#"{{"{extra}":[1],"value":{quote}{value}{quote},"number":{quote}{number}{quote}}}"#);
            let once = Request::read(Api::SetGpio, Some(&given)).unwrap();
            prop_assert_eq!(once.number, Some(number));
            prop_assert_eq!(&once.parameters, &format!("{{\"number\": {number}, \"value\": {value}, \"{extra}\": [1]}}"));
            prop_assert_eq!(Request::read(Api::SetGpio, Some(&once.parameters)).unwrap(), once);
        }
    }
}
