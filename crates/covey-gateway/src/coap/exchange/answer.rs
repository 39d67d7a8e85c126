//! How an answer is written: whole, in blocks, or without its text, as large as it may be.

use super::event::Response;
use super::served::digest;
use crate::coap::message::{Block, BlockSize, Code, Draft, Kind, Token, option};

/// Where an answer goes, and what it may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub port: u16,
    pub id: u16,
    pub token: Token,
    pub is_confirmable: bool,
    pub is_acknowledged: bool,
    /// How many bytes the request has.
    pub asked_bytes: usize,
    pub block1: Option<Block>,
    pub block2: Option<Block>,
}

/// What an answer has beside what its owner says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extra {
    pub block1: Option<Block>,
    /// The largest body that would have been taken.
    pub size1: Option<u32>,
}

/// An answer as it goes out.
pub(super) struct Written {
    pub bytes: Vec<u8>,
    /// Whether there are blocks behind this one.
    pub has_more: bool,
    /// The code, if there is nothing else.
    pub is_code_alone: Option<Code>,
    /// Whether it is the answer as its owner gave it, and nothing was added that is of blocks.
    pub is_whole: bool,
}

/// Writes an answer of at most so many bytes: whole if that is possible, else a block of it, else without its
/// text, else that there is none.
pub(super) fn write(
    kind: Kind,
    id: u16,
    asker: &Asker,
    response: &Response,
    extra: Extra,
    block_size: BlockSize,
    bytes_max: usize,
) -> Written {
    if response.code.is_success() {
        if let Some(written) = write_body(kind, id, asker, response, extra, block_size, bytes_max) {
            return written;
        }
        // Not even 16 bytes of it fit.
        return write_error(kind, id, asker, Code::SERVICE_UNAVAILABLE, "", extra, bytes_max);
    }
    let text = String::from_utf8_lossy(&response.payload);
    let text = text.get(..text.floor_char_boundary(block_size.bytes())).unwrap_or_default();
    write_error(kind, id, asker, response.code, text, extra, bytes_max)
}

fn write_body(
    kind: Kind,
    id: u16,
    asker: &Asker,
    response: &Response,
    extra: Extra,
    block_size: BlockSize,
    bytes_max: usize,
) -> Option<Written> {
    let offset = asker.block2.map_or(0, Block::offset);
    let body = &response.payload;
    if offset > 0 && offset >= body.len() {
        let text = "there is no such block";
        return Some(write_error(kind, id, asker, Code::BAD_REQUEST, text, extra, bytes_max));
    }
    let rest = body.get(offset..)?;
    let mut size = asker.block2.map_or(block_size, |block| block.size.min(block_size));
    let mut is_in_blocks = asker.block2.is_some() || rest.len() > size.bytes();
    loop {
        let piece = rest.get(..size.bytes()).unwrap_or(rest);
        let has_more = piece.len() < rest.len();
        let mut draft = Draft::new(kind, response.code, id, asker.token);
        if let Some(format) = response.content_format {
            draft.number(option::CONTENT_FORMAT, format.into());
        }
        if let Some(max_age_s) = response.max_age_s {
            draft.number(option::MAX_AGE, max_age_s);
        }
        if is_in_blocks {
            // Of blocks of one body; of a body that was made anew and differs it tells (RFC 7959 §2.4).
            if body.len() > piece.len() {
                draft.option(option::ETAG, digest(body).to_be_bytes().to_vec());
            }
            // The offset is a multiple of each size that is tried: sizes only become smaller.
            draft.number(option::BLOCK2, Block::at(offset, size, has_more)?.value());
            if offset == 0 && has_more {
                draft.number(option::SIZE2, u32::try_from(body.len()).ok()?);
            }
        }
        if let Some(block) = extra.block1 {
            draft.number(option::BLOCK1, block.value());
        }
        draft.payload = piece;
        let mut bytes = Vec::with_capacity(piece.len() + 40);
        draft.encode(&mut bytes).ok()?;
        if bytes.len() <= bytes_max {
            let is_bare = draft.has_nothing_but_code();
            let is_whole = !is_in_blocks && extra.block1.is_none();
            return Some(Written {
                bytes,
                has_more,
                is_code_alone: is_bare.then_some(response.code),
                is_whole,
            });
        }
        if is_in_blocks {
            size = BlockSize::at_most(size.bytes() / 2)?;
        }
        is_in_blocks = true;
    }
}

fn write_error(
    kind: Kind,
    id: u16,
    asker: &Asker,
    code: Code,
    text: &str,
    extra: Extra,
    bytes_max: usize,
) -> Written {
    // With its text, without it, without anything.
    for (text, extra) in [(text, extra), ("", extra), ("", Extra::default())] {
        let mut draft = Draft::new(kind, code, id, asker.token);
        if let Some(block) = extra.block1 {
            draft.number(option::BLOCK1, block.value());
        }
        if let Some(size1) = extra.size1 {
            draft.number(option::SIZE1, size1);
        }
        draft.payload = text.as_bytes();
        let mut bytes = Vec::new();
        // Its options are short.
        let is_written = draft.encode(&mut bytes).is_ok();
        if is_written && bytes.len() <= bytes_max {
            let is_bare = draft.has_nothing_but_code();
            let is_code_alone = is_bare.then_some(code);
            return Written { bytes, has_more: false, is_code_alone, is_whole: false };
        }
    }
    // Header and token, of which its request has as much.
    let mut bytes = Vec::new();
    let is_written = Draft::new(kind, code, id, asker.token).encode(&mut bytes).is_ok();
    debug_assert!(is_written, "a message without options can be written");
    Written { bytes, has_more: false, is_code_alone: Some(code), is_whole: false }
}
