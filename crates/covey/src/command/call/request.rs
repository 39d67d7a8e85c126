//! What a call says: method and parameters, as they are typed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail};
use covey_client::RawValue;

use crate::fault;

/// Highest method code (rest-api "Tasks").
const METHOD_CODE_MAX: u16 = 65_534;
/// Longest method name, in bytes.
const METHOD_BYTES_MAX: usize = 128;
/// Longest parameters, in bytes: no request may have more.
const PAYLOAD_BYTES_MAX: u64 = 256 * 1024;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// As a number.
    Code(u16),
    /// As a name.
    Name(String),
}

impl FromStr for Method {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > METHOD_BYTES_MAX || text.chars().any(char::is_control) {
            return Err("a name has 1 to 128 bytes, without control characters");
        }
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Self::Name(text.to_owned()));
        }
        let code = text.parse().ok().filter(|code| *code <= METHOD_CODE_MAX);
        code.map(Self::Code).ok_or("a method code is 0 to 65534")
    }
}

/// Where parameters come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadSource {
    /// They were typed.
    Text(String),
    /// Standard input, typed as `-`.
    Stdin,
    /// A file, typed as `@FILE`.
    File(PathBuf),
}

impl FromStr for PayloadSource {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix('@') {
            Some(path) => Self::File(PathBuf::from(path)),
            None if text == "-" => Self::Stdin,
            None => Self::Text(text.to_owned()),
        })
    }
}

impl PayloadSource {
    /// Reads the parameters and checks that they are a JSON object.
    ///
    /// # Errors
    /// One line that says what is wrong with them.
    pub fn read(&self) -> Result<Box<RawValue>> {
        match self {
            Self::Text(text) => payload(text, "the parameters"),
            Self::Stdin => payload(&read_all(std::io::stdin().lock(), "standard input")?, "standard input"),
            Self::File(path) => {
                let name = path.display().to_string();
                payload(&read_file(path, &name)?, &name)
            }
        }
    }
}

fn read_file(path: &Path, name: &str) -> Result<String> {
    match std::fs::File::open(path) {
        Ok(file) => read_all(file, name),
        Err(error) => Err(fault::setup(format!("cannot read the parameters from {name}: {error}"))),
    }
}

fn read_all(source: impl Read, name: &str) -> Result<String> {
    let mut text = String::new();
    // One byte more than allowed, to tell what is too long from what just fits.
    match source.take(PAYLOAD_BYTES_MAX + 1).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(fault::setup(format!("cannot read the parameters from {name}: {error}"))),
    }
}

fn payload(text: &str, name: &str) -> Result<Box<RawValue>> {
    let text = text.trim();
    if text.len() as u64 > PAYLOAD_BYTES_MAX {
        bail!("{name}: too long; a call carries at most {PAYLOAD_BYTES_MAX} bytes of JSON");
    }
    match RawValue::from_string(text.to_owned()) {
        Ok(json) if json.get().starts_with('{') => Ok(json),
        Ok(_) => bail!("{name}: not a JSON object; write it like '{{\"times\":3}}'"),
        Err(error) => bail!("{name}: not JSON ({error}); write it in single quotes, like '{{\"times\":3}}'"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn digits_are_a_method_code_and_anything_else_is_a_name() {
        assert_eq!("20".parse(), Ok(Method::Code(20)));
        assert_eq!("65534".parse(), Ok(Method::Code(65_534)));
        assert_eq!("2a".parse(), Ok(Method::Name("2a".to_owned())));
        assert_eq!("get gpio".parse(), Ok(Method::Name("get gpio".to_owned())));
        for bad in ["", "65535", "99999999999999999999", "a\nb", &"x".repeat(129)] {
            assert!(bad.parse::<Method>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parameters_are_a_json_object_and_stay_as_they_were_written() {
        let read = |text: &str| text.parse::<PayloadSource>().unwrap().read();
        assert_eq!(read(" {\"b\":1.0,\"a\":[]}\n").unwrap().get(), r#"{"b":1.0,"a":[]}"#);
        for bad in ["", "5", "[1]", "{times:3}", "{\"a\":1}}", "\"{}\"", "@/no/such/file"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(256 * 1024));
        assert!(read(&long).unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn parameters_are_read_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        std::fs::write(&path, "{\"a\":1}\n").unwrap();
        let source: PayloadSource = format!("@{}", path.display()).parse().unwrap();
        assert_eq!(source.read().unwrap().get(), "{\"a\":1}");
        std::fs::write(&path, [0xff]).unwrap();
        assert!(source.read().is_err());
        assert_eq!("-".parse(), Ok(PayloadSource::Stdin));
    }
}
