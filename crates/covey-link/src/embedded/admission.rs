//! Who may connect (device-rpc "Identity").

use std::sync::Arc;

use covey_core::Engine;
use covey_core::id::Sn;
use covey_core::port::Refusal;
use covey_net::mqtt::{Admitted, Claim, Denied};
use covey_wire::mqtt::ReasonCode;
use covey_wire::parse_uplink_topic;

use crate::embedded::devices::Device;
use crate::embedded::{EmbeddedLink, kept_sessions};

/// Decides about a CONNECT (MQTT 5 §3.2.2.2; in 3.1.1 the return code that corresponds).
pub(super) async fn admit(
    engine: &Engine,
    link: &EmbeddedLink,
    claim: Claim<'_>,
) -> Result<Admitted<Device>, Denied> {
    let (client_id, address) = (claim.connect.client_id, claim.address);
    let refuse = |reason, refusal, why: &'static str| {
        link.refusals.count(refusal);
        tracing::warn!(client_id, %address, why, "connection refused");
        Err(Denied { reason, text: why.into() })
    };
    let shown = claim.certificate.and_then(|certificate| {
        let sn = Sn::parse(certificate.common_name.as_deref()?).ok()?;
        Some((sn, certificate.serial_hex.clone()))
    });
    let Some((sn, certificate_serial_hex)) = shown else {
        let why = "the certificate names no serial number";
        return refuse(ReasonCode::NotAuthorized, Refusal::NoCertificate, why);
    };
    if sn.as_str() != client_id {
        let why = "the client id is not the certificate's CN";
        return refuse(ReasonCode::ClientIdentifierNotValid, Refusal::ClientIdNotCn, why);
    }
    if link.trespasses.is_out(&sn, link.clock.monotonic_us() / 1_000) {
        let why = "the device was put out, and comes too soon";
        return refuse(ReasonCode::ConnectionRateExceeded, Refusal::PutOut, why);
    }
    let is_own = |topic: &str| parse_uplink_topic(topic).is_some_and(|(owner, _)| owner == sn.as_str());
    if claim.connect.will.is_some_and(|will| !is_own(will.topic)) {
        let why = "the will's topic is not the device's own";
        return refuse(ReasonCode::NotAuthorized, Refusal::PublishTopic, why);
    }
    match kept_sessions::take_up(engine, &sn, &certificate_serial_hex, claim).await {
        Ok(Some((identity, session))) => {
            let client = Arc::new(Device::new(identity, certificate_serial_hex, claim.connect.version));
            Ok(Admitted { client, assigned_client_id: None, session })
        }
        Ok(None) => {
            refuse(ReasonCode::NotAuthorized, Refusal::NotAdmitted, "the certificate is unknown or revoked")
        }
        Err(error) => {
            tracing::error!(%error, "connection not checked: the store failed");
            refuse(ReasonCode::ServerUnavailable, Refusal::Storage, "the store does not answer")
        }
    }
}
