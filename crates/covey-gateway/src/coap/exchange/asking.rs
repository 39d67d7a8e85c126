//! What a request says: its options, checked (RFC 7252 §5.4, §5.10).

use super::terms::SEGMENT_BYTES_MAX;
use crate::coap::message::{Block, Code, Message, option};

/// A request whose options are all known, and have values that they may have.
#[derive(Debug)]
pub(super) struct Asking {
    pub path: String,
    pub queries: Vec<String>,
    pub content_format: Option<u16>,
    pub accept: Option<u16>,
    pub block1: Option<Block>,
    pub block2: Option<Block>,
    /// How large its body is said to be.
    pub size1: Option<u32>,
}

/// Why a request cannot be taken: the status, and a text for its sender.
pub(super) type Refusal = (Code, &'static str);

impl Asking {
    pub fn read(message: &Message<'_>) -> Result<Self, Refusal> {
        let mut asking = Self {
            path: String::new(),
            queries: Vec::new(),
            content_format: None,
            accept: None,
            block1: None,
            block2: None,
            size1: None,
        };
        let (mut before, mut is_first_segment) = (None, true);
        for (number, value) in message.options.iter() {
            let is_repeated = before.replace(number) == Some(number);
            match number {
                option::URI_PATH => {
                    if !std::mem::take(&mut is_first_segment) {
                        asking.path.push('/');
                    }
                    asking.path.push_str(segment(value)?);
                }
                option::URI_QUERY => asking.queries.push(segment(value)?.to_owned()),
                option::PROXY_URI | option::PROXY_SCHEME => {
                    return Err((Code::PROXYING_NOT_SUPPORTED, "this is no proxy"));
                }
                // Whatever name or port it was sent to, it has come here.
                option::URI_HOST | option::URI_PORT => {}
                // One too many of a critical option is as one that is not known (§5.4.5).
                option::BLOCK1 | option::BLOCK2 | option::ACCEPT if is_repeated => {
                    return Err((Code::BAD_OPTION, "a critical option stands twice"));
                }
                option::BLOCK1 => asking.block1 = Some(block(message, number)?),
                option::BLOCK2 => asking.block2 = Some(block(message, number)?),
                option::ACCEPT => {
                    let format = format(value).ok_or((Code::BAD_OPTION, "Accept is too long"))?;
                    asking.accept = Some(format);
                }
                // Those that are elective are ignored where they are wrong (§5.4.3).
                option::CONTENT_FORMAT if !is_repeated => asking.content_format = format(value),
                option::SIZE1 if !is_repeated => asking.size1 = option::number(value),
                number if option::is_critical(number) => {
                    return Err((Code::BAD_OPTION, "a critical option is not known"));
                }
                _ => {}
            }
        }
        Ok(asking)
    }
}

fn segment(value: &[u8]) -> Result<&str, Refusal> {
    if value.len() > SEGMENT_BYTES_MAX {
        return Err((Code::BAD_OPTION, "a part of the path or the query is too long"));
    }
    std::str::from_utf8(value).map_err(|_| (Code::BAD_OPTION, "path or query is not UTF-8"))
}

fn format(value: &[u8]) -> Option<u16> {
    option::number(value).filter(|_| value.len() <= 2).and_then(|number| u16::try_from(number).ok())
}

fn block(message: &Message<'_>, number: u16) -> Result<Block, Refusal> {
    // A size that is reserved is answered so (RFC 7959 §2.2).
    let block = message.block(number).map_err(|malformed| (Code::BAD_REQUEST, malformed.reason))?;
    block.ok_or((Code::BAD_REQUEST, "a block option has no meaning"))
}
