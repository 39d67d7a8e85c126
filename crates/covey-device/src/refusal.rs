//! Tells a refusal (the server said no, and will say so again) from a connection that merely
//! failed and is worth another try soon.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use rumqttc::{ConnectReturnCode, ConnectionError, DisconnectReasonCode, StateError, SubscribeReasonCode};

/// Why the server does not want this device, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// CONNECT was answered with this MQTT 5 reason code (0x85: the client id is not the
    /// certificate's CN; 0x87: the SN is unknown, retired or revoked).
    Connect {
        /// MQTT 5 reason code of the CONNACK.
        reason: u8,
    },
    /// A live connection was closed with this reason code (0x87: revoked or retired; 0x8E:
    /// another connection uses the same SN).
    Disconnected {
        /// MQTT 5 reason code of the DISCONNECT.
        reason: u8,
    },
    /// A subscription under `srv/<SN>/` was refused with this reason code.
    Subscribe {
        /// MQTT 5 reason code of the SUBACK.
        reason: u8,
    },
    /// One side does not accept the other's certificate. The text is the TLS library's.
    Certificate {
        /// What was wrong.
        detail: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { reason: 0x85 } => f.write_str(
                "the server refused the client id (0x85): it must be the certificate's CommonName",
            ),
            Self::Connect { reason: 0x87 } | Self::Disconnected { reason: 0x87 } => f.write_str(
                "the server does not know this device, or it is retired or revoked (0x87): register it again and use the new certificate",
            ),
            Self::Disconnected { reason: 0x8E } => f.write_str(
                "another connection uses this SN (0x8E): run each SN once",
            ),
            Self::Connect { reason } => {
                write!(f, "the server refused the connection (0x{reason:02X})")
            }
            Self::Disconnected { reason } => {
                write!(f, "the server closed the connection (0x{reason:02X})")
            }
            Self::Subscribe { reason } => write!(
                f,
                "the server refused the subscription to this device's topics (0x{reason:02X}): check its access rules",
            ),
            Self::Certificate { detail } => write!(
                f,
                "the TLS certificates do not fit: {detail}; compare ca.pem with the server's CA, the host name with its certificate, and the dates",
            ),
        }
    }
}

/// The refusal in a connection error, if it is one. Anything else (network, timeouts, a server
/// that is busy or going down) returns `None`.
pub(crate) fn from_connection_error(error: &ConnectionError) -> Option<Refusal> {
    match error {
        ConnectionError::ConnectionRefused(code) => from_connack(*code),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            from_disconnect(*reason_code)
        }
        ConnectionError::MqttState(StateError::ConnFail { reason }) => from_connack(*reason),
        ConnectionError::MqttState(StateError::Deserialization(rumqttc::Error::Io(error)))
        | ConnectionError::MqttState(StateError::Io(error))
        | ConnectionError::Io(error) => from_io(error),
        ConnectionError::Tls(rumqttc::TlsError::Io(error)) => from_io(error),
        ConnectionError::Tls(rumqttc::TlsError::TLS(error)) => from_rustls(error),
        _ => None,
    }
}

/// MQTT 5 section 3.2.2.2. Reasons that pass by themselves are not refusals.
fn from_connack(code: ConnectReturnCode) -> Option<Refusal> {
    use ConnectReturnCode as Code;
    let reason = match code {
        Code::ProtocolError => 0x82,
        Code::ImplementationSpecificError => 0x83,
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => 0x84,
        Code::BadClientId | Code::ClientIdentifierNotValid => 0x85,
        Code::BadUserNamePassword => 0x86,
        Code::NotAuthorized => 0x87,
        Code::Banned => 0x8A,
        Code::BadAuthenticationMethod => 0x8C,
        Code::PacketTooLarge => 0x95,
        Code::UseAnotherServer => 0x9C,
        Code::ServerMoved => 0x9D,
        _ => return None,
    };
    Some(Refusal::Connect { reason })
}

/// MQTT 5 section 3.14.2.1. Administrative closes come back at the slow rate too.
fn from_disconnect(code: DisconnectReasonCode) -> Option<Refusal> {
    use DisconnectReasonCode as Code;
    match code {
        Code::NotAuthorized
        | Code::SessionTakenOver
        | Code::AdministrativeAction
        | Code::UseAnotherServer
        | Code::ServerMoved => Some(Refusal::Disconnected { reason: code as u8 }),
        _ => None,
    }
}

/// MQTT 5 section 3.9.3.
pub(crate) fn from_suback(codes: &[SubscribeReasonCode]) -> Option<Refusal> {
    use SubscribeReasonCode as Code;
    codes.iter().find_map(|code| {
        let reason = match code {
            Code::Success(_) => return None,
            Code::Failure | Code::Unspecified => 0x80,
            Code::ImplementationSpecific => 0x83,
            Code::NotAuthorized => 0x87,
            Code::TopicFilterInvalid => 0x8F,
            Code::PkidInUse => 0x91,
            Code::QuotaExceeded => 0x97,
            Code::SharedSubscriptionsNotSupported => 0x9E,
            Code::SubscriptionIdNotSupported => 0xA1,
            Code::WildcardSubscriptionsNotSupported => 0xA2,
        };
        Some(Refusal::Subscribe { reason })
    })
}

/// With TLS 1.3 the server judges the client's certificate after the client's handshake is
/// over, so its alert arrives as a read error of the first MQTT packet.
fn from_io(error: &io::Error) -> Option<Refusal> {
    let mut cause: Option<&(dyn StdError + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(inner) = cause {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return from_rustls(tls);
        }
        cause = inner.source();
    }
    None
}

fn from_rustls(error: &rustls::Error) -> Option<Refusal> {
    use rustls::AlertDescription as Alert;
    let refused = match error {
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::UnsupportedNameType
        | rustls::Error::NoCertificatesPresented => true,
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::CertificateRequired
                | Alert::NoCertificate
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError
        ),
        _ => false,
    };
    refused.then(|| Refusal::Certificate { detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_not_a_refusal() {
        for code in [
            ConnectReturnCode::ServerBusy,
            ConnectReturnCode::ServerUnavailable,
            ConnectReturnCode::QuotaExceeded,
            ConnectReturnCode::ConnectionRateExceeded,
        ] {
            assert_eq!(from_connack(code), None, "{code:?}");
        }
        assert_eq!(from_disconnect(DisconnectReasonCode::ServerShuttingDown), None);
        assert_eq!(from_io(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }

    #[test]
    fn what_the_server_will_say_again_is_a_refusal() {
        assert_eq!(from_connack(ConnectReturnCode::NotAuthorized), Some(Refusal::Connect { reason: 0x87 }));
        assert_eq!(
            from_disconnect(DisconnectReasonCode::NotAuthorized),
            Some(Refusal::Disconnected { reason: 0x87 })
        );
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRevoked);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, alert);
        assert!(matches!(from_io(&wrapped), Some(Refusal::Certificate { .. })));
    }
}
