//! The reason codes of MQTT 5 (§2.4), and which of them a packet may carry.

use super::Place;

/// A reason code of MQTT 5 §2.4. Below 0x80 something succeeded, from 0x80 on it failed.
///
/// 3.1.1 has no reason codes: its CONNACK and SUBACK carry return codes, which are read into these and
/// written from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of MQTT 5, section 2.4")]
pub enum ReasonCode {
    /// Also Normal disconnection, and Granted QoS 0.
    Success = 0x00,
    GrantedQos1 = 0x01,
    GrantedQos2 = 0x02,
    DisconnectWithWillMessage = 0x04,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    ContinueAuthentication = 0x18,
    ReAuthenticate = 0x19,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8A,
    ServerShuttingDown = 0x8B,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    MessageRateTooHigh = 0x96,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    RetainNotSupported = 0x9A,
    QosNotSupported = 0x9B,
    UseAnotherServer = 0x9C,
    ServerMoved = 0x9D,
    SharedSubscriptionsNotSupported = 0x9E,
    ConnectionRateExceeded = 0x9F,
    MaximumConnectTime = 0xA0,
    SubscriptionIdentifiersNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}

/// By code, what is read from the wire.
const BY_CODE: [Option<ReasonCode>; 256] = {
    let mut table = [None; 256];
    let mut place = 0;
    while place < ReasonCode::ALL.len() {
        table[ReasonCode::ALL[place] as usize] = Some(ReasonCode::ALL[place]);
        place += 1;
    }
    table
};

impl ReasonCode {
    /// All of them, by their code.
    pub const ALL: [Self; 43] = {
        use ReasonCode::*;
        [
            Success,
            GrantedQos1,
            GrantedQos2,
            DisconnectWithWillMessage,
            NoMatchingSubscribers,
            NoSubscriptionExisted,
            ContinueAuthentication,
            ReAuthenticate,
            UnspecifiedError,
            MalformedPacket,
            ProtocolError,
            ImplementationSpecificError,
            UnsupportedProtocolVersion,
            ClientIdentifierNotValid,
            BadUserNameOrPassword,
            NotAuthorized,
            ServerUnavailable,
            ServerBusy,
            Banned,
            ServerShuttingDown,
            BadAuthenticationMethod,
            KeepAliveTimeout,
            SessionTakenOver,
            TopicFilterInvalid,
            TopicNameInvalid,
            PacketIdentifierInUse,
            PacketIdentifierNotFound,
            ReceiveMaximumExceeded,
            TopicAliasInvalid,
            PacketTooLarge,
            MessageRateTooHigh,
            QuotaExceeded,
            AdministrativeAction,
            PayloadFormatInvalid,
            RetainNotSupported,
            QosNotSupported,
            UseAnotherServer,
            ServerMoved,
            SharedSubscriptionsNotSupported,
            ConnectionRateExceeded,
            MaximumConnectTime,
            SubscriptionIdentifiersNotSupported,
            WildcardSubscriptionsNotSupported,
        ]
    };

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason of a code, if MQTT 5 has one.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        BY_CODE[code as usize]
    }

    /// Whether it says that something failed (MQTT 5 §2.4).
    #[must_use]
    pub const fn is_failure(self) -> bool {
        self.code() >= 0x80
    }

    /// Whether a packet may carry it there.
    #[must_use]
    pub fn is_allowed_in(self, place: Place) -> bool {
        use ReasonCode::*;
        match place {
            // MQTT 5 §3.2.2.2 [MQTT-3.2.2-8].
            Place::ConnAck => {
                self == Success
                    || (self >= UnspecifiedError && self <= Banned)
                    || (self >= RetainNotSupported && self <= ServerMoved)
                    || matches!(
                        self,
                        BadAuthenticationMethod
                            | TopicNameInvalid
                            | PacketTooLarge
                            | QuotaExceeded
                            | PayloadFormatInvalid
                            | ConnectionRateExceeded
                    )
            }
            // §3.4.2.1 [MQTT-3.4.2-1], §3.5.2.1 [MQTT-3.5.2-1].
            Place::PubAck | Place::PubRec => matches!(
                self,
                Success
                    | NoMatchingSubscribers
                    | UnspecifiedError
                    | ImplementationSpecificError
                    | NotAuthorized
                    | TopicNameInvalid
                    | PacketIdentifierInUse
                    | QuotaExceeded
                    | PayloadFormatInvalid
            ),
            // §3.6.2.1 [MQTT-3.6.2-1], §3.7.2.1 [MQTT-3.7.2-1].
            Place::PubRel | Place::PubComp => matches!(self, Success | PacketIdentifierNotFound),
            // §3.9.3 [MQTT-3.9.3-2].
            Place::SubAck => matches!(
                self,
                Success
                    | GrantedQos1
                    | GrantedQos2
                    | UnspecifiedError
                    | ImplementationSpecificError
                    | NotAuthorized
                    | TopicFilterInvalid
                    | PacketIdentifierInUse
                    | QuotaExceeded
                    | SharedSubscriptionsNotSupported
                    | SubscriptionIdentifiersNotSupported
                    | WildcardSubscriptionsNotSupported
            ),
            // §3.11.3 [MQTT-3.11.3-2].
            Place::UnsubAck => matches!(
                self,
                Success
                    | NoSubscriptionExisted
                    | UnspecifiedError
                    | ImplementationSpecificError
                    | NotAuthorized
                    | TopicFilterInvalid
                    | PacketIdentifierInUse
            ),
            Place::DisconnectFromClient => self.is_of_a_disconnecting_client(),
            Place::DisconnectFromServer => self.is_of_a_disconnecting_server(),
            // §3.15.2.1 [MQTT-3.15.2-1].
            Place::AuthFromClient => matches!(self, ContinueAuthentication | ReAuthenticate),
            Place::AuthFromServer => matches!(self, Success | ContinueAuthentication),
            Place::Connect
            | Place::Will
            | Place::PublishFromClient
            | Place::PublishFromServer
            | Place::Subscribe
            | Place::Unsubscribe => false,
        }
    }

    /// MQTT 5 §3.14.2.1, the rows with "Client" \[MQTT-3.14.2-1\].
    const fn is_of_a_disconnecting_client(self) -> bool {
        use ReasonCode::*;
        matches!(
            self,
            Success
                | DisconnectWithWillMessage
                | UnspecifiedError
                | MalformedPacket
                | ProtocolError
                | ImplementationSpecificError
                | TopicNameInvalid
                | ReceiveMaximumExceeded
                | TopicAliasInvalid
                | PacketTooLarge
                | MessageRateTooHigh
                | QuotaExceeded
                | AdministrativeAction
                | PayloadFormatInvalid
        )
    }

    /// MQTT 5 §3.14.2.1, the rows with "Server". 0x8C is not among them, although table 2-6 names DISCONNECT
    /// beside it.
    fn is_of_a_disconnecting_server(self) -> bool {
        use ReasonCode::*;
        (self.is_of_a_disconnecting_client() && self != DisconnectWithWillMessage)
            || self >= RetainNotSupported
            || matches!(
                self,
                NotAuthorized
                    | ServerBusy
                    | ServerShuttingDown
                    | KeepAliveTimeout
                    | SessionTakenOver
                    | TopicFilterInvalid
            )
    }

    /// The return code of a 3.1.1 CONNACK (3.1.1 §3.2.2.3) that says this best.
    pub(super) const fn return_code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::BadUserNameOrPassword => 4,
            Self::NotAuthorized | Self::Banned | Self::BadAuthenticationMethod => 5,
            _ => 3,
        }
    }

    /// What a return code of a 3.1.1 CONNACK says.
    pub(super) const fn from_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

impl From<crate::reason::Reason> for ReasonCode {
    fn from(reason: crate::reason::Reason) -> Self {
        use crate::reason::Reason;
        match reason {
            Reason::Success => Self::Success,
            Reason::NoMatchingSubscribers => Self::NoMatchingSubscribers,
            Reason::Unspecified => Self::UnspecifiedError,
            Reason::ImplementationSpecific => Self::ImplementationSpecificError,
            Reason::NotAuthorized => Self::NotAuthorized,
            Reason::TopicNameInvalid => Self::TopicNameInvalid,
            Reason::PacketTooLarge => Self::PacketTooLarge,
            Reason::QuotaExceeded => Self::QuotaExceeded,
            Reason::PayloadFormatInvalid => Self::PayloadFormatInvalid,
        }
    }
}
