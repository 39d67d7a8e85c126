//! Who may connect (device-rpc "Identity").

use covey_core::id::Sn;
use covey_core::port::Refusal;
use covey_wire::parse_uplink_topic;
use rmqtt::codec::v3::ConnectAckReason as ReasonV3;
use rmqtt::codec::v5::ConnectAckReason as ReasonV5;
use rmqtt::types::{AuthResult, ConnectAckReason, ConnectInfo, Publish};

use crate::embedded::Shared;

/// Why a CONNECT is refused, with the reason codes of MQTT 5 §3.2.2.2 and
/// MQTT 3.1.1 §3.2.2.3.
#[derive(Clone, Copy)]
enum Refused {
    ClientId,
    NotAuthorized,
    Unavailable,
}

impl Refused {
    fn answer(self, connect: &ConnectInfo) -> AuthResult {
        AuthResult::Refused(match (connect, self) {
            (ConnectInfo::V5(..), Self::ClientId) => ConnectAckReason::V5(ReasonV5::ClientIdentifierNotValid),
            (ConnectInfo::V5(..), Self::NotAuthorized) => ConnectAckReason::V5(ReasonV5::NotAuthorized),
            (ConnectInfo::V5(..), Self::Unavailable) => ConnectAckReason::V5(ReasonV5::ServerUnavailable),
            (ConnectInfo::V3(..), Self::ClientId) => ConnectAckReason::V3(ReasonV3::IdentifierRejected),
            (ConnectInfo::V3(..), Self::NotAuthorized) => ConnectAckReason::V3(ReasonV3::NotAuthorized),
            (ConnectInfo::V3(..), Self::Unavailable) => ConnectAckReason::V3(ReasonV3::ServiceUnavailable),
        })
    }
}

/// The serial number and the certificate of a CONNECT.
pub(super) struct Claim {
    pub(super) sn: Sn,
    pub(super) certificate_serial_hex: String,
}

impl Claim {
    /// What the certificate says, whatever the client says.
    pub(super) fn of(connect: &ConnectInfo) -> Option<Self> {
        let certificate = connect.cert()?;
        let sn = Sn::parse(certificate.common_name.as_deref()?).ok()?;
        Some(Self { sn, certificate_serial_hex: certificate.serial.clone()? })
    }
}

/// Decides about a CONNECT.
pub(super) async fn admit(shared: &Shared, connect: &ConnectInfo) -> AuthResult {
    let address = connect.ipaddress().map(|address| address.to_string()).unwrap_or_default();
    let refuse = |refused: Refused, refusal: Refusal, why: &str| {
        shared.link.refusals.count(refusal);
        tracing::warn!(client_id = %connect.client_id(), address, why, "connection refused");
        refused.answer(connect)
    };
    let Some(claim) = Claim::of(connect) else {
        return refuse(
            Refused::NotAuthorized,
            Refusal::NoCertificate,
            "the certificate names no serial number",
        );
    };
    if claim.sn.as_str() != &**connect.client_id() {
        return refuse(
            Refused::ClientId,
            Refusal::ClientIdNotCn,
            "the client id is not the certificate's CN",
        );
    }
    if !may_leave_will(connect, &claim.sn) {
        return refuse(
            Refused::NotAuthorized,
            Refusal::PublishTopic,
            "the will's topic is not the device's own",
        );
    }
    match shared.engine.server().device_admit(&claim.sn, &claim.certificate_serial_hex).await {
        Ok(Some(device)) => {
            shared.link.sessions.admitted(connect.id(), device);
            AuthResult::Allow(false, None)
        }
        Ok(None) => {
            refuse(Refused::NotAuthorized, Refusal::NotAdmitted, "the certificate is unknown or revoked")
        }
        Err(error) => {
            tracing::error!(%error, "connection not checked: the store failed");
            refuse(Refused::Unavailable, Refusal::Storage, "the store does not answer")
        }
    }
}

/// A will is published without passing the ACL, so its topic is checked here.
fn may_leave_will(connect: &ConnectInfo, sn: &Sn) -> bool {
    let Some(will) = connect.last_will() else { return true };
    match Publish::try_from(will) {
        Ok(publish) => parse_uplink_topic(&publish.topic).is_some_and(|(owner, _)| owner == sn.as_str()),
        Err(_) => false,
    }
}
