//! What an application sends about a device.

use std::collections::BTreeMap;
use std::fmt;

use covey_core::device::{CertificateSpec, DeviceSpec, TAG_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_MAX, Tag};
use covey_core::id::Sn;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use utoipa::openapi::schema::{AdditionalProperties, Object, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{ArrayBuilder, OneOfBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::problem::{Kind, Problem};
use crate::wire::Whole;

/// The characters that the name of a tag may have: no control characters.
const TAG_PATTERN: &str = r"^[^\x00-\x1F\x7F-\x9F]+$";

/// A device to be registered. All fields may be left out.
#[derive(Deserialize, ToSchema)]
pub(super) struct DeviceNew {
    /// Its serial number; one is made if none is given.
    #[serde(default)]
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    sn: Option<String>,
    /// Its number for applications; the next free one if none is given.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    device_id: Option<Whole>,
    /// Its tags: a list of `{"tag", "value"}`, or an object of values by name. Of equal names the last counts.
    #[serde(default)]
    #[schema(value_type = Option<Tags>, inline)]
    tags: Option<Tags>,
    /// A certificate signing request (PKCS #10) in PEM. Without one a key is made for the device.
    #[serde(default)]
    csr: Option<String>,
    /// `issue` for a certificate with which the device connects; `none` for a node behind a gateway, which cannot
    /// connect by itself.
    #[serde(default)]
    certificate: Option<CertificateWanted>,
}

/// Whether a device gets a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CertificateWanted {
    #[default]
    Issue,
    None,
}

impl DeviceNew {
    /// What the core is asked for.
    pub(super) fn into_spec(self) -> Result<DeviceSpec, Problem> {
        let sn = self.sn.map(|text| Sn::parse(&text)).transpose()?;
        let tags = self.tags.map_or_else(BTreeMap::new, |Tags(tags)| tags);
        Ok(DeviceSpec {
            sn,
            device_id: self.device_id.map(|Whole(number)| number),
            tags: tags.into_iter().map(|(tag, value)| Tag { tag, value }).collect(),
            certificate: match (self.certificate.unwrap_or_default(), self.csr) {
                (CertificateWanted::Issue, None) => CertificateSpec::WithKey,
                (CertificateWanted::Issue, Some(csr_pem)) => CertificateSpec::Sign { csr_pem },
                (CertificateWanted::None, None) => CertificateSpec::None,
                (CertificateWanted::None, Some(_)) => {
                    return Err(Problem::of_field(
                        Kind::Contradictory,
                        "certificate",
                        "must not be none beside a csr",
                    ));
                }
            },
        })
    }
}

/// A tag with its value.
#[derive(ToSchema)]
#[schema(as = DeviceTagNew)]
pub(super) struct TagNew {
    /// The name.
    #[schema(min_length = 1, max_length = 64, pattern = r"^[^\x00-\x1F\x7F-\x9F]+$", example = "room")]
    tag: String,
    /// The value.
    #[schema(max_length = 1024, pattern = r"^[^\x00]*$", example = "hall")]
    value: String,
}

impl TagNew {
    /// What the core is asked for.
    pub(super) fn into_tag(self) -> Tag {
        Tag { tag: self.tag, value: self.value }
    }
}

/// Written out because a derived reader would take an array for an object.
impl<'de> Deserialize<'de> for TagNew {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagVisitor;

        impl<'de> Visitor<'de> for TagVisitor {
            type Value = TagNew;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with tag and value")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<TagNew, M::Error> {
                let (mut tag, mut value) = (None, None);
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "tag" => tag = Some(map.next_value()?),
                        "value" => value = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let tag = tag.ok_or_else(|| M::Error::missing_field("tag"))?;
                let value = value.ok_or_else(|| M::Error::missing_field("value"))?;
                Ok(TagNew { tag, value })
            }
        }

        deserializer.deserialize_map(TagVisitor)
    }
}

/// Tags by name, from either form.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tags(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagsVisitor;

        impl<'de> Visitor<'de> for TagsVisitor {
            type Value = Tags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of {\"tag\", \"value\"}, or an object of values by name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tags, A::Error> {
                let mut tags = Tags::default();
                let mut count = 0;
                while let Some(TagNew { tag, value }) = list.next_element()? {
                    tags.0.insert(tag, value);
                    count += 1;
                }
                // The list is bounded as such, whatever is equal in it.
                if count > TAGS_MAX { Err(A::Error::custom("must be at most 64")) } else { Ok(tags) }
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Tags, M::Error> {
                let mut tags = Tags::default();
                while let Some((tag, value)) = map.next_entry()? {
                    tags.0.insert(tag, value);
                }
                Ok(tags)
            }
        }

        deserializer.deserialize_any(TagsVisitor)
    }
}

impl PartialSchema for Tags {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        let name: Object =
            text().min_length(Some(1)).max_length(Some(TAG_CHARS_MAX)).pattern(Some(TAG_PATTERN)).build();
        let value = text().max_length(Some(TAG_VALUE_CHARS_MAX)).pattern(Some(r"^[^\x00]*$"));
        let by_name = ObjectBuilder::new()
            .property_names(Some(Schema::Object(name)))
            .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(value.into()))))
            .max_properties(Some(TAGS_MAX as usize));
        let list = ArrayBuilder::new().items(TagNew::schema()).max_items(Some(TAGS_MAX as usize));
        RefOr::T(Schema::OneOf(OneOfBuilder::new().item(list).item(by_name).build()))
    }
}

impl ToSchema for Tags {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::extract::RawBody;

    fn spec(body: &str) -> Result<DeviceSpec, Problem> {
        RawBody::of(body).read::<DeviceNew>()?.into_spec()
    }

    #[test]
    fn tags_come_as_a_list_or_as_an_object() {
        let tag = |tag: &str, value: &str| Tag { tag: tag.to_owned(), value: value.to_owned() };
        let list =
            spec(r#"{"tags":[{"tag":"b","value":"1"},{"value":"2","tag":"a"},{"tag":"b","value":"3"}]}"#);
        assert_eq!(list.unwrap().tags, [tag("a", "2"), tag("b", "3")]);
        assert_eq!(spec(r#"{"tags":{"b":"1","a":"2"}}"#).unwrap().tags, [tag("a", "2"), tag("b", "1")]);
        assert_eq!(
            spec(r#"{"tags":null,"sn":null,"device_id":null,"csr":null}"#).unwrap(),
            DeviceSpec::default()
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (body, field) in [
            (r#"{"tags":[["a","b"]]}"#, "tags[0]"),
            (r#"{"tags":[{"tag":"a"}]}"#, "tags[0].value"),
            (r#"{"tags":{"a":1}}"#, "tags.a"),
            (r#"{"tags":"a"}"#, "tags"),
            (r#"{"sn":"a b"}"#, "sn"),
            (r#"{"device_id":true}"#, "device_id"),
        ] {
            assert_eq!(spec(body).unwrap_err().field.as_deref(), Some(field), "{body}");
        }
    }
}
