//! A request to a peer as it stands: what was sent of it, and what has come of its answer.

use super::event::{Failure, Request, Response};
use super::terms::{PATIENCE_MS_MAX, Terms};
use crate::coap::message::{Block, BlockSize, Code, Draft, Kind, Message, Token, option};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The owner wants the answer.
    Ask,
    /// The owner wants to know whether somebody is there.
    Ping,
    /// An observation of this number is renewed (RFC 7641 §3.3.1).
    Renew(u64),
    /// The blocks behind the first one of a notification (RFC 7959 §2.6).
    Rest(u64),
    /// An observation is given up (RFC 7641 §3.6).
    GiveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// To be sent when nothing else is on its way.
    Ready,
    /// On its way: nothing else is sent to this peer (NSTART, §4.7).
    Sent,
    /// Acknowledged, or sent without a wish for it: the answer comes by itself.
    Waiting,
}

/// A request that is open.
#[derive(Debug)]
pub(super) struct Call {
    pub number: u64,
    pub port: u16,
    pub purpose: Purpose,
    pub request: Request,
    pub stage: Stage,
    /// Of the present message.
    pub id: u16,
    /// Of the present message.
    pub token: Token,
    /// Under which the peer tells of changes, once it was asked to.
    pub registered: Option<Token>,
    pub bytes: Vec<u8>,
    /// How often the present message was sent; 0: no message of this request was.
    pub attempts: u8,
    pub timeout_ms: u64,
    pub next_ms: u64,
    pub until_ms: u64,
    /// The block of the request's body that is sent; none if it is sent whole.
    pub sending: Option<Block>,
    /// The block of the answer that is asked for.
    pub fetching: Option<Block>,
    got: Got,
    /// Whether it has begun to fetch an answer anew that changed meanwhile.
    is_restarted: bool,
}

/// What has come of an answer.
#[derive(Debug, Default)]
struct Got {
    response: Option<Response>,
    etag: Option<Vec<u8>>,
    /// The value of Observe.
    observe: Option<u32>,
}

/// What a response brings.
#[derive(Debug)]
pub(super) enum Progress {
    /// The whole answer, and the value of Observe.
    Done(Response, Option<u32>),
    Failed(Failure),
    /// The next block is to be sent or asked for.
    GoesOn,
}

impl Call {
    pub fn new(number: u64, port: u16, purpose: Purpose, request: Request, now_ms: u64) -> Self {
        let until_ms = now_ms + request.patience_ms.min(PATIENCE_MS_MAX);
        Self {
            number,
            port,
            purpose,
            request,
            stage: Stage::Ready,
            id: 0,
            token: Token::default(),
            registered: None,
            bytes: Vec::new(),
            attempts: 0,
            timeout_ms: 0,
            next_ms: until_ms,
            until_ms,
            sending: None,
            fetching: None,
            got: Got::default(),
            is_restarted: false,
        }
    }

    pub fn due_ms(&self, ids_free_ms: Option<u64>) -> u64 {
        let next_ms = match self.stage {
            Stage::Ready => ids_free_ms.unwrap_or(u64::MAX),
            Stage::Sent | Stage::Waiting => self.next_ms,
        };
        next_ms.min(self.until_ms)
    }

    pub fn held_bytes(&self) -> usize {
        let got = self.got.response.as_ref().map_or(0, |response| response.payload.capacity());
        size_of::<Self>() + request_bytes(&self.request) + self.bytes.capacity() + got
    }

    /// Whether the answer may make the peer tell of changes.
    pub const fn is_observing(&self) -> bool {
        matches!(self.purpose, Purpose::Ask | Purpose::Renew(_)) && self.request.observe
    }

    pub const fn is_empty_message(&self) -> bool {
        matches!(self.purpose, Purpose::Ping)
    }

    /// A response to its present message.
    pub fn take(&mut self, message: &Message<'_>, terms: &Terms) -> Progress {
        if let Err(broken) = check_options(message) {
            return Progress::Failed(Failure::Broken(broken));
        }
        if let Some(sent) = self.sending {
            let block1 = match message.block(option::BLOCK1) {
                Ok(block1) => block1,
                Err(malformed) => return Progress::Failed(Failure::Broken(malformed.reason)),
            };
            if let Some(progress) = self.take_block1(sent, block1, message.code) {
                return progress;
            }
        } else if message.code == Code::REQUEST_ENTITY_TOO_LARGE && self.fetching.is_none() {
            // Blocks are asked for (RFC 7959 §2.9.3).
            let block1 = message.block(option::BLOCK1).ok().flatten();
            if let Some(block) = block1.filter(|block| block.size.bytes() < self.request.payload.len()) {
                self.sending = self.block_at(0, block.size);
                return Progress::GoesOn;
            }
        } else if message.code == Code::CONTINUE {
            return Progress::Failed(Failure::Broken("it asks to go on with what was sent whole"));
        }
        self.take_block2(message, terms)
    }

    /// An answer to a block of the request; none if it is the answer to the request.
    fn take_block1(&mut self, sent: Block, block1: Option<Block>, code: Code) -> Option<Progress> {
        if code == Code::REQUEST_ENTITY_TOO_LARGE && sent.number == 0 {
            // Smaller blocks are asked for (RFC 7959 §2.9.3).
            let smaller = block1.filter(|block| block.size < sent.size)?;
            self.sending = self.block_at(0, smaller.size);
            return Some(Progress::GoesOn);
        }
        if code != Code::CONTINUE && (!code.is_success() || !sent.has_more) {
            // Some servers say no Block1 with it.
            return None;
        }
        let broken = |text| Some(Progress::Failed(Failure::Broken(text)));
        if !sent.has_more {
            return broken("it asks to go on behind the last block");
        }
        let size = match block1 {
            Some(block) if block.number == sent.number => block.size.min(sent.size),
            Some(_) => return broken("it acknowledges another block than was sent"),
            None if code == Code::CONTINUE => sent.size,
            None => return broken("it takes a part for the whole"),
        };
        self.sending = self.block_at(sent.offset() + sent.size.bytes(), size);
        Some(Progress::GoesOn)
    }

    /// The block of the body at this offset. There is one: bodies are small, and sizes only become smaller.
    pub fn block_at(&self, offset: usize, size: BlockSize) -> Option<Block> {
        Block::at(offset, size, offset + size.bytes() < self.request.payload.len())
    }

    pub fn take_block2(&mut self, message: &Message<'_>, terms: &Terms) -> Progress {
        let failed = |text| Progress::Failed(Failure::Broken(text));
        let block2 = match message.block(option::BLOCK2) {
            Ok(block2) => block2,
            Err(malformed) => return failed(malformed.reason),
        };
        let had = self.got.response.as_ref().map_or(0, |response| response.payload.len());
        if !message.code.is_success() {
            return Progress::Done(response_of(message), None);
        }
        let Some(block) = block2 else {
            if had > 0 {
                return failed("it has the whole where a block was asked for");
            }
            return Progress::Done(response_of(message), observe_of(message));
        };
        if block.offset() != had {
            return failed("its blocks are out of order");
        }
        let is_right_size = if block.has_more {
            message.payload.len() == block.size.bytes()
        } else {
            message.payload.len() <= block.size.bytes()
        };
        if !is_right_size {
            return failed("a block is larger or smaller than it says");
        }
        let announced = message.number(option::SIZE2).ok().flatten().unwrap_or_default();
        if had + message.payload.len() > terms.body_bytes_max
            || usize::try_from(announced).unwrap_or(usize::MAX) > terms.body_bytes_max
        {
            return Progress::Failed(Failure::TooLarge);
        }
        let etag = message.options.first(option::ETAG);
        match &mut self.got.response {
            None => {
                self.got.etag = etag.map(<[u8]>::to_vec);
                self.got.observe = observe_of(message);
                self.got.response = Some(response_of(message));
            }
            Some(response) => {
                if self.got.etag.as_deref() != etag {
                    return self.begin_again();
                }
                response.payload.extend_from_slice(message.payload);
            }
        }
        if block.has_more {
            // A smaller size divides the offset too.
            let size = block.size.min(terms.block_size);
            let next = Block::at(block.offset() + block.size.bytes(), size, false);
            let Some(next) = next else { return Progress::Failed(Failure::TooLarge) };
            self.sending = None;
            self.fetching = Some(next);
            return Progress::GoesOn;
        }
        let got = std::mem::take(&mut self.got);
        let Some(response) = got.response else { return failed("it has no first block") };
        Progress::Done(response, got.observe)
    }

    /// The answer has changed while it was fetched. A GET is made anew, once.
    fn begin_again(&mut self) -> Progress {
        if self.request.method != Code::GET || std::mem::replace(&mut self.is_restarted, true) {
            return Progress::Failed(Failure::Broken("it changes while it is fetched"));
        }
        self.got = Got { observe: self.got.observe, ..Got::default() };
        self.fetching = Block::at(0, BlockSize::MAX, false);
        Progress::GoesOn
    }
}

/// What a request takes.
pub(super) fn request_bytes(request: &Request) -> usize {
    let queries: usize = request.queries.iter().map(|query| query.capacity() + size_of::<String>()).sum();
    size_of::<Request>() + request.path.capacity() + queries + request.payload.capacity()
}

/// That a response has no critical option that is not known (RFC 7252 §5.4.1).
fn check_options(message: &Message<'_>) -> Result<(), &'static str> {
    let is_known = |number| matches!(number, option::BLOCK1 | option::BLOCK2);
    let mut before = None;
    for (number, _) in message.options.iter() {
        let is_repeated = before.replace(number) == Some(number);
        if option::is_critical(number) && (is_repeated || !is_known(number)) {
            return Err("it has a critical option that is not known");
        }
    }
    Ok(())
}

pub(super) fn response_of(message: &Message<'_>) -> Response {
    let number = |option| message.options.first(option).and_then(option::number);
    Response {
        code: message.code,
        content_format: number(option::CONTENT_FORMAT).and_then(|format| u16::try_from(format).ok()),
        max_age_s: number(option::MAX_AGE),
        payload: message.payload.to_vec(),
        is_echo: false,
    }
}

/// The lower 24 bits of Observe (RFC 7641 §2), if it is there.
pub(super) fn observe_of(message: &Message<'_>) -> Option<u32> {
    message.options.first(option::OBSERVE).and_then(option::number).map(|observe| observe & 0xFF_FFFF)
}

/// The message that a call is to send now.
pub(super) fn write(call: &Call) -> Vec<u8> {
    let request = &call.request;
    let kind = if request.is_confirmable { Kind::Confirmable } else { Kind::NonConfirmable };
    let mut draft = Draft::new(kind, request.method, call.id, call.token);
    if let Some(block) = call.fetching {
        draft.number(option::BLOCK2, block.value());
    } else {
        if let Some(block) = call.sending {
            draft.number(option::BLOCK1, block.value());
            if block.number == 0 {
                // Bodies are small.
                draft.number(option::SIZE1, u32::try_from(request.payload.len()).unwrap_or(u32::MAX));
            }
            let piece = request.payload.get(block.offset()..).unwrap_or_default();
            draft.payload = piece.get(..block.size.bytes()).unwrap_or(piece);
        } else {
            draft.payload = &request.payload;
        }
        if let Some(format) = request.content_format {
            draft.number(option::CONTENT_FORMAT, format.into());
        }
        match call.purpose {
            Purpose::GiveUp => draft.number(option::OBSERVE, 1),
            _ if call.is_observing() => draft.number(option::OBSERVE, 0),
            _ => {}
        }
    }
    if !request.path.is_empty() {
        for segment in request.path.split('/') {
            draft.option(option::URI_PATH, segment.as_bytes());
        }
    }
    for query in &request.queries {
        draft.option(option::URI_QUERY, query.as_bytes());
    }
    if let Some(format) = request.accept {
        draft.number(option::ACCEPT, format.into());
    }
    let mut bytes = Vec::with_capacity(draft.payload.len() + request.path.len() + 40);
    // Its options are short, and it has a method.
    let is_written = draft.encode(&mut bytes).is_ok();
    debug_assert!(is_written, "options of a request are short");
    bytes
}
