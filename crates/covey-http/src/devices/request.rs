//! What an application sends about a device, as the core has it.

use std::collections::BTreeMap;

use covey_api::{CertificateWanted, DeviceNew, DeviceTag, DeviceTags, Whole};
use covey_core::device::{CertificateSpec, DeviceSpec, Tag};
use covey_core::id::Sn;

use crate::problem::{Kind, Problem};

/// What the core is asked for.
pub(super) fn into_spec(body: DeviceNew) -> Result<DeviceSpec, Problem> {
    let sn = body.sn.map(|text| Sn::parse(&text)).transpose()?;
    let tags = body.tags.map_or_else(BTreeMap::new, |DeviceTags(tags)| tags);
    let contradicts = |field, problem| Err(Problem::of_field(Kind::Contradictory, field, problem));
    let certificate = match (body.certificate.unwrap_or_default(), body.csr, body.ca, body.certificate_pem) {
        (CertificateWanted::Issue, None, None, None) => CertificateSpec::WithKey,
        (CertificateWanted::Issue, Some(csr_pem), None, None) => CertificateSpec::Sign { csr_pem },
        (CertificateWanted::Issue, None, Some(ca), Some(certificate_pem)) => {
            CertificateSpec::Imported { ca, certificate_pem }
        }
        (CertificateWanted::None, None, None, None) => CertificateSpec::None,
        (CertificateWanted::None, Some(_), ..) => {
            return contradicts("certificate", "must not be none beside a csr");
        }
        _ => {
            return contradicts(
                "ca",
                "and certificate_pem go together, and with nothing else of a certificate",
            );
        }
    };
    Ok(DeviceSpec {
        sn,
        device_id: body.device_id.map(|Whole(number)| number),
        tags: tags.into_iter().map(|(tag, value)| Tag { tag, value }).collect(),
        certificate,
    })
}

/// The same of a tag.
pub(super) fn into_tag(body: DeviceTag<'_>) -> Tag {
    Tag { tag: body.tag.into_owned(), value: body.value.into_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::extract::RawBody;

    fn spec(body: &str) -> Result<DeviceSpec, Problem> {
        into_spec(RawBody::of(body).read()?)
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
