//! A device to be registered, and its tags.

use std::collections::BTreeMap;
use std::fmt;

#[cfg(feature = "openapi")]
use covey_core::device::{TAG_CHARS_MAX, TAG_VALUE_CHARS_MAX};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::openapi::schema::{AdditionalProperties, Object, ObjectBuilder, Schema, SchemaType, Type};
#[cfg(feature = "openapi")]
use utoipa::openapi::{ArrayBuilder, OneOfBuilder, RefOr};
#[cfg(feature = "openapi")]
use utoipa::{PartialSchema, ToSchema};

use crate::by_name::ByName;
use crate::{DeviceTag, Whole};

/// How many tags a list may have.
const TAGS_MAX: usize = 64;
#[cfg(feature = "core")]
const _: () = assert!(TAGS_MAX == covey_core::device::TAGS_MAX as usize, "the domain takes as many");

/// The characters that the name of a tag may have: no control characters.
#[cfg(feature = "openapi")]
const TAG_PATTERN: &str = r"^[^\x00-\x1F\x7F-\x9F]+$";

/// A device to be registered. All fields may be left out.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct DeviceNew {
    /// Its serial number; one is made if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    pub sn: Option<String>,
    /// Its number for applications; the next free one if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 9_007_199_254_740_991_i64))]
    pub device_id: Option<Whole>,
    /// Its tags: a list of `{"tag", "value"}`, or an object of values by name. Of equal names the last counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<DeviceTags>, inline))]
    pub tags: Option<DeviceTags>,
    /// A certificate signing request (PKCS #10) in PEM. Without one a key is made for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr: Option<String>,
    /// `issue` for a certificate with which the device connects; `none` for a node behind a gateway, which cannot
    /// connect by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateWanted>,
    /// The name of a CA of others that was imported (`covey ca import`): the device has a certificate of it, which is
    /// `certificate_pem`, and gets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// That certificate in PEM, with those that lead to the CA behind it. Its CommonName is the serial number of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 32768))]
    pub certificate_pem: Option<String>,
    /// In which form certificate and key are given: `pem`; `pkcs12`, one file with both, which is locked with a password;
    /// or `der`. Those of `pkcs12` and `der` are in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleWanted>,
    /// The password of `pkcs12`: 1 to 128 visible ASCII characters or blanks. One is made if none is given, and shown
    /// once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 128, pattern = "^[ -~]+$"))]
    pub bundle_password: Option<String>,
}

/// Never shows the password.
impl fmt::Debug for DeviceNew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceNew")
            .field("sn", &self.sn)
            .field("device_id", &self.device_id)
            .finish_non_exhaustive()
    }
}

/// In which form certificate and key are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the OpenAPI document describes where it is used
pub enum BundleWanted {
    #[default]
    Pem,
    Pkcs12,
    Der,
}

/// Whether a device gets a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the OpenAPI document describes where it is used
pub enum CertificateWanted {
    #[default]
    Issue,
    None,
}

/// Tags by name, from either form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceTags(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for DeviceTags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagsVisitor;

        impl<'de> Visitor<'de> for TagsVisitor {
            type Value = DeviceTags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of {\"tag\", \"value\"}, or an object of values by name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<DeviceTags, A::Error> {
                let mut tags = DeviceTags::default();
                let mut count = 0;
                while let Some(ByName(DeviceTag { tag, value })) = list.next_element()? {
                    tags.0.insert(tag.into_owned(), value.into_owned());
                    count += 1;
                }
                // The list is bounded as such, whatever is equal in it.
                if count > TAGS_MAX { Err(A::Error::custom("must be at most 64")) } else { Ok(tags) }
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<DeviceTags, M::Error> {
                let mut tags = DeviceTags::default();
                while let Some((tag, value)) = map.next_entry()? {
                    tags.0.insert(tag, value);
                }
                Ok(tags)
            }
        }

        deserializer.deserialize_any(TagsVisitor)
    }
}

#[cfg(feature = "openapi")]
impl PartialSchema for DeviceTags {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        let name: Object =
            text().min_length(Some(1)).max_length(Some(TAG_CHARS_MAX)).pattern(Some(TAG_PATTERN)).build();
        let value = text().max_length(Some(TAG_VALUE_CHARS_MAX)).pattern(Some(r"^[^\x00]*$"));
        let by_name = ObjectBuilder::new()
            .property_names(Some(Schema::Object(name)))
            .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(value.into()))))
            .max_properties(Some(TAGS_MAX));
        let list = ArrayBuilder::new().items(DeviceTag::schema()).max_items(Some(TAGS_MAX));
        RefOr::T(Schema::OneOf(OneOfBuilder::new().item(list).item(by_name).build()))
    }
}

#[cfg(feature = "openapi")]
impl ToSchema for DeviceTags {}
