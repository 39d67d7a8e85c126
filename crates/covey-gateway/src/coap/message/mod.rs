//! CoAP messages as bytes (RFC 7252 §3): read without copying what they hold, and written. Nothing here
//! waits, answers or remembers.
//!
//! Strict where the standard is: a message with a format error is refused as a whole, and whoever sent it is
//! told so by Reset if that is possible (§4.2, §4.3).

mod block;
mod code;
mod draft;
pub mod option;

pub use block::{Block, BlockSize};
pub use code::Code;
pub use draft::{Draft, Unencodable};

use option::Options;

/// Largest datagram that is read. With the largest block a message has about 1,100 bytes; some nodes put more
/// than a block into one.
/// Limit for each datagram: it is dropped and counted.
pub const DATAGRAM_BYTES_MAX: usize = 4 * 1024;

/// The marker between options and payload (§3).
const PAYLOAD_MARKER: u8 = 0xFF;
/// Bytes before the token.
const HEADER_BYTES: usize = 4;

/// How a message is to be taken (§4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CON: it is repeated until it is acknowledged.
    Confirmable,
    /// NON: sent once.
    NonConfirmable,
    /// ACK: of a CON message, and often with the response in it.
    Acknowledgement,
    /// RST: the message with this id was understood by nobody.
    Reset,
}

impl Kind {
    const fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0 => Self::Confirmable,
            1 => Self::NonConfirmable,
            2 => Self::Acknowledgement,
            _ => Self::Reset,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Confirmable => 0,
            Self::NonConfirmable => 1,
            Self::Acknowledgement => 2,
            Self::Reset => 3,
        }
    }
}

/// What a client chooses so that it knows which request a response is for (§5.3.1): 0 to 8 bytes. Longer ones
/// (RFC 8974) are refused, as RFC 7252 §3 wants it of an endpoint that does not offer them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    length: u8,
    bytes: [u8; Self::BYTES_MAX],
}

impl Token {
    /// Longest token (§3).
    pub const BYTES_MAX: usize = 8;

    /// None if it is longer than [`BYTES_MAX`](Self::BYTES_MAX).
    #[must_use]
    pub fn new(token: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::BYTES_MAX];
        bytes.get_mut(..token.len())?.copy_from_slice(token);
        Some(Self { length: u8::try_from(token.len()).ok()?, bytes })
    }

    /// The bytes of it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A message that was read: all parts are checked for their form, none for what it means.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// CON, NON, ACK or RST.
    pub kind: Kind,
    /// Method or status; [`Code::EMPTY`] if it has nothing but its header.
    pub code: Code,
    /// Message ID: which message an ACK or RST is for, and which ones are one and the same.
    pub id: u16,
    /// Which request a response is for.
    pub token: Token,
    /// In the order of their numbers.
    pub options: Options<'a>,
    /// The body or a block of it; empty if there is none.
    pub payload: &'a [u8],
}

/// A datagram that is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Malformed {
    /// What is wrong with it.
    pub reason: &'static str,
    /// Kind and id, if so much can be read: a CON message is answered with Reset (§4.2).
    pub header: Option<(Kind, u16)>,
}

impl<'a> Message<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    /// What is wrong with its form. A message of another version has no [`Malformed::header`]: it is
    /// silently ignored (§3).
    pub fn decode(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let unreadable = |reason| Malformed { reason, header: None };
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(unreadable("the datagram is too large"));
        }
        let Some((&[first, code, id_high, id_low], rest)) = datagram.split_first_chunk::<HEADER_BYTES>()
        else {
            return Err(unreadable("the datagram ends within the header"));
        };
        if first >> 6 != 1 {
            return Err(unreadable("the version is not 1"));
        }
        let (kind, id) = (Kind::from_bits(first >> 4), u16::from_be_bytes([id_high, id_low]));
        let malformed = |reason| Malformed { reason, header: Some((kind, id)) };
        let code = Code(code);
        let token_bytes = usize::from(first & 0x0F);
        // Lengths 9 to 15 are reserved, and a message format error (§3).
        if token_bytes > Token::BYTES_MAX {
            return Err(malformed("the token has more than 8 bytes"));
        }
        if code == Code::EMPTY && (token_bytes > 0 || !rest.is_empty()) {
            return Err(malformed("an empty message has bytes after its header"));
        }
        let (token, rest) = rest
            .split_at_checked(token_bytes)
            .ok_or_else(|| malformed("the message ends within the token"))?;
        let token = Token::new(token).ok_or_else(|| malformed("the token has more than 8 bytes"))?;
        let (options, payload) = Options::split(rest).map_err(malformed)?;
        match (kind, code.class()) {
            _ if code == Code::EMPTY => {
                // An empty NON message means nothing (table 1).
                if kind == Kind::NonConfirmable {
                    return Err(malformed("a non-confirmable message is empty"));
                }
            }
            (Kind::Reset, _) => return Err(malformed("a reset message is not empty")),
            (Kind::Acknowledgement, 0) => return Err(malformed("an acknowledgement has a request in it")),
            (_, 0 | 2 | 4 | 5) => {}
            _ => return Err(malformed("the code is of a reserved class")),
        }
        Ok(Self { kind, code, id, token, options, payload })
    }

    /// The number in an option that is one, none if it is absent.
    ///
    /// # Errors
    /// If it is longer than four bytes.
    pub fn number(&self, option: u16) -> Result<Option<u32>, Malformed> {
        let value = self.options.first(option);
        let number = value.map(|value| {
            option::number(value).ok_or(Malformed {
                reason: "an option that is a number is too long",
                header: Some((self.kind, self.id)),
            })
        });
        number.transpose()
    }

    /// A block option ([`option::BLOCK1`] or [`option::BLOCK2`]), none if it is absent.
    ///
    /// # Errors
    /// If it is too long, or has the reserved size (RFC 7959 §2.2).
    pub fn block(&self, option: u16) -> Result<Option<Block>, Malformed> {
        let value = self.options.first(option);
        let block = value.map(|value| {
            Block::read(value).ok_or(Malformed {
                reason: "a block option has no meaning",
                header: Some((self.kind, self.id)),
            })
        });
        block.transpose()
    }
}
