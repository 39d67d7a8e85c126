//! Who may connect (device-rpc "Identity").

use std::sync::Arc;

use covey_core::Engine;
use covey_core::device::DeviceKind;
use covey_core::id::Sn;
use covey_core::port::Refusal;
use covey_net::mqtt::{Admitted, Claim, Denied};
use covey_wire::mqtt::ReasonCode;

use crate::embedded::devices::{Device, Speaks};
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
    // Before anything of its session changes.
    let speaks = |kind| {
        let speaks = match (kind, link.microcontrollers.get()) {
            (DeviceKind::Ordinary, _) => Speaks::Tasks,
            (DeviceKind::Microcontroller, Some(link)) => Speaks::Calls(Arc::clone(link)),
            (DeviceKind::Microcontroller, None) => {
                return Err((Refusal::NotAdmitted, "microcontrollers are not switched on here (--mcu-http)"));
            }
        };
        match claim.connect.will {
            Some(will) if !speaks.may_publish(&sn, will.topic) => {
                Err((Refusal::PublishTopic, "the will's topic is not the device's own"))
            }
            _ => Ok(speaks),
        }
    };
    match kept_sessions::take_up(engine, &sn, &certificate_serial_hex, claim, speaks).await {
        Ok(Some(Ok((identity, speaks, session)))) => {
            let version = claim.connect.version;
            let client = Arc::new(Device::new(identity, certificate_serial_hex, version, speaks));
            Ok(Admitted { client, assigned_client_id: None, session })
        }
        Ok(Some(Err((refusal, why)))) => refuse(ReasonCode::NotAuthorized, refusal, why),
        Ok(None) => {
            refuse(ReasonCode::NotAuthorized, Refusal::NotAdmitted, "the certificate is unknown or revoked")
        }
        Err(error) => {
            tracing::error!(%error, "connection not checked: the store failed");
            refuse(ReasonCode::ServerUnavailable, Refusal::Storage, "the store does not answer")
        }
    }
}
