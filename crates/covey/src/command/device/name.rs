//! How a person names a device, and how a tag is written on a command line.

use std::convert::Infallible;
use std::str::FromStr;

use anyhow::{Result, anyhow, bail};
use covey_client::{Device, DeviceFilter, PageRequest, Tag};

use crate::command::connection::Connection;
use crate::command::output::printable;

/// A device as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// By serial number.
    Sn(String),
    /// By number.
    Id(i64),
    /// Digits only: either of the two.
    Either(String, i64),
}

impl FromStr for DeviceName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        // No serial number holds a colon (device-rpc "Identity").
        Ok(match text.split_once(':') {
            Some(("sn", sn)) => Self::Sn(sn.to_owned()),
            Some(("id", id)) => number(id).map_or_else(|| Self::Sn(text.to_owned()), Self::Id),
            _ => match number(text) {
                Some(id) => Self::Either(text.to_owned(), id),
                None => Self::Sn(text.to_owned()),
            },
        })
    }
}

impl DeviceName {
    /// The device that is meant.
    ///
    /// # Errors
    /// One line that says what to do if there is none, or if two may be meant.
    pub async fn find(&self, connection: &Connection) -> Result<Device> {
        let by_sn = |sn: &str| DeviceFilter { sn: Some(sn.to_owned()), ..DeviceFilter::default() };
        let by_id = |id| DeviceFilter { device_id: Some(id), ..DeviceFilter::default() };
        let (found, name) = match self {
            Self::Sn(sn) => (one(connection, &by_sn(sn)).await?, sn.clone()),
            Self::Id(id) => (one(connection, &by_id(*id)).await?, format!("with number {id}")),
            Self::Either(text, id) => {
                let (with_sn, with_id) =
                    (one(connection, &by_sn(text)).await?, one(connection, &by_id(*id)).await?);
                if let (Some(a), Some(b)) = (&with_sn, &with_id)
                    && a.device_id != b.device_id
                {
                    bail!(
                        "{text} is the serial number of one device and the number of another ({}): say \
                         sn:{text} or id:{text}",
                        b.sn
                    );
                }
                (with_sn.or(with_id), text.clone())
            }
        };
        found.ok_or_else(|| {
            anyhow!(
                "there is no device {}: \"{}\" shows those that there are",
                printable(&name),
                connection.command("device list")
            )
        })
    }
}

async fn one(connection: &Connection, filter: &DeviceFilter) -> Result<Option<Device>> {
    let page = connection.client.device_list(filter, PageRequest { page: 1, size: 1 }).await?;
    Ok(page.items.into_iter().next())
}

/// Reads a tag as `name=value`.
pub fn read_tag(text: &str) -> Result<Tag, &'static str> {
    match text.split_once('=') {
        Some((tag, value)) if !tag.is_empty() => {
            Ok(Tag { tag: tag.to_owned().into(), value: value.to_owned().into() })
        }
        _ => Err("write it as name=value, like room=kitchen"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_device_is_named_by_serial_number_or_number() {
        let names = [
            ("lamp-1", DeviceName::Sn("lamp-1".to_owned())),
            ("12", DeviceName::Either("12".to_owned(), 12)),
            ("sn:12", DeviceName::Sn("12".to_owned())),
            ("id:12", DeviceName::Id(12)),
            ("id:x", DeviceName::Sn("id:x".to_owned())),
            ("-1", DeviceName::Sn("-1".to_owned())),
            ("99999999999999999999", DeviceName::Sn("99999999999999999999".to_owned())),
        ];
        for (text, name) in names {
            assert_eq!(text.parse::<DeviceName>().unwrap(), name, "{text}");
        }
    }

    #[test]
    fn a_tag_is_split_at_the_first_equals_sign() {
        let tag =
            |tag: &str, value: &str| Ok(Tag { tag: tag.to_owned().into(), value: value.to_owned().into() });
        assert_eq!(read_tag("room=kitchen"), tag("room", "kitchen"));
        assert_eq!(read_tag("url=a=b"), tag("url", "a=b"));
        assert_eq!(read_tag("empty="), tag("empty", ""));
        for bad in ["", "room", "=kitchen"] {
            assert!(read_tag(bad).is_err(), "{bad:?}");
        }
    }
}
