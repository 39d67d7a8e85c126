//! A message of a device as it arrives, before its fields are read.

use crate::property;

/// The MQTT 5 properties that matter of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// The native Correlation Data.
    pub correlation_data: Option<&'a [u8]>,
    /// The correlation that AMQP carries in the header `x-correlation-id`.
    pub correlation_header: Option<&'a [u8]>,
    /// User property `correlationData`.
    pub correlation_property: Option<&'a str>,
    /// User property `CorrelationData`.
    pub correlation_property_capital: Option<&'a str>,
    /// User property `status_code`.
    pub status_code: Option<&'a str>,
    /// User property `ext_id`.
    pub ext_id: Option<&'a str>,
    /// User property `event_type_code`.
    pub event_type_code: Option<&'a str>,
    /// User property `dev_event_id`.
    pub dev_event_id: Option<&'a str>,
    /// User property `dev_timestamp`.
    pub dev_timestamp: Option<&'a str>,
    /// User property `correlation_id`.
    pub correlation_id: Option<&'a str>,
}

impl<'a> Properties<'a> {
    /// Takes a user property, if it is one that matters. Of those with one name
    /// the first counts.
    pub fn put_user_property(&mut self, name: &str, value: &'a str) {
        let place = match name {
            property::CORRELATION_DATA => &mut self.correlation_property,
            property::CORRELATION_DATA_CAPITAL => &mut self.correlation_property_capital,
            property::STATUS_CODE => &mut self.status_code,
            property::EXT_ID => &mut self.ext_id,
            property::EVENT_TYPE_CODE => &mut self.event_type_code,
            property::DEV_EVENT_ID => &mut self.dev_event_id,
            property::DEV_TIMESTAMP => &mut self.dev_timestamp,
            property::CORRELATION_ID => &mut self.correlation_id,
            _ => return,
        };
        place.get_or_insert(value);
    }

    /// What names a correlation, in the order of device-rpc "Correlation".
    pub(super) fn correlations(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let given = [
            self.correlation_data,
            self.correlation_header,
            self.correlation_property.map(str::as_bytes),
            self.correlation_property_capital.map(str::as_bytes),
        ];
        given.into_iter().flatten().filter(|bytes| !bytes.is_empty())
    }
}

/// Where a message carries what is beside its body.
#[derive(Clone, Copy, Debug)]
pub enum Carrier<'a> {
    /// In the properties of MQTT 5.
    Properties(Properties<'a>),
    /// In a JSON envelope: it came from an MQTT 3.1.1 client.
    Envelope,
    /// It has no properties; whether its sender could have given any is not known.
    Unknown,
}

/// A message of a device.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// What is beside the body.
    pub carrier: Carrier<'a>,
    /// The body.
    pub body: &'a [u8],
}
