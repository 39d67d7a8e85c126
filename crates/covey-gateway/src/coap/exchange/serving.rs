//! The side that is asked: requests of a peer, each served once, and their answers.

use super::answer::{Asker, Extra, Written, write};
use super::asking::{Asking, Refusal};
use super::bodies::{BodyKey, Joined};
use super::event::{Asked, Dropped, Event, Receipt, Response};
use super::peer::Step;
use super::served::{Repeat, digest};
use super::terms::{
    EMPTY_ACK_MS, EXCHANGE_LIFETIME_MS, NON_LIFETIME_MS, PEER_BYTES_MAX, PENDING_MAX, RETRANSMIT_MAX,
    STRANGER_ANSWER_FACTOR_MAX, STRANGER_BODY_BYTES_MAX,
};
use crate::coap::message::{Block, Code, Draft, Kind, Message, option};

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    number: u64,
    asker: Asker,
    key: BodyKey,
    /// When it is acknowledged if there is no answer; none: it is, or never will be.
    pub acknowledge_ms: Option<u64>,
    pub expires_ms: u64,
}

/// A confirmable response that was sent apart from the acknowledgement of its request (§5.2.2).
#[derive(Debug)]
pub(super) struct Separate {
    id: u16,
    port: u16,
    bytes: Vec<u8>,
    attempts: u8,
    timeout_ms: u64,
    due_ms: u64,
}

impl Separate {
    pub const fn due_ms(&self) -> u64 {
        self.due_ms
    }

    pub const fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }
}

impl Step<'_> {
    /// A request has come.
    pub fn asked(&mut self, port: u16, message: &Message<'_>, bytes: &[u8]) -> Result<(), Dropped> {
        let is_confirmable = message.kind == Kind::Confirmable;
        let digest = digest(bytes);
        if let Some(repeat) = self.peer.served.find(port, message.id, digest, self.now_ms) {
            self.repeat(port, message, repeat);
            return Ok(());
        }
        let mut asker = Asker {
            port,
            id: message.id,
            token: message.token,
            is_confirmable,
            is_acknowledged: false,
            asked_bytes: bytes.len(),
            block1: None,
            block2: None,
        };
        let asking = match Asking::read(message) {
            Ok(asking) => asking,
            // §5.4.1: with a non-confirmable request nothing is answered.
            Err((code, reason)) if !is_confirmable => return Err(Dropped::BadRequest(code, reason)),
            Err(refusal) => return Err(self.refuse(&asker, refusal, Extra::default())),
        };
        asker.block1 = asking.block1;
        asker.block2 = asking.block2;
        let key = BodyKey::new(message.code, &asking.path, &asking.queries);
        // A further block of an answer: it brings nothing new, so that nothing need be remembered.
        if asking.block2.is_some_and(|block| block.number > 0) {
            let kept = self.peer.work_mut().and_then(|work| work.answers.take(key));
            if let Some(response) = kept {
                self.answer(&asker, key, response, Extra::default());
                return Ok(());
            }
            if message.code != Code::GET {
                let refusal = (Code::REQUEST_ENTITY_INCOMPLETE, "the answer is no longer kept");
                return Err(self.refuse(&asker, refusal, Extra::default()));
            }
        }
        let held_bytes = self.peer.held_bytes();
        let pending = self.peer.work().map_or(0, |work| work.pending.len());
        let is_full = held_bytes + message.payload.len() > PEER_BYTES_MAX
            || message.payload.len() > self.room_bytes
            || pending >= PENDING_MAX;
        if is_full {
            if is_confirmable {
                self.answer(&asker, key, Response::new(Code::SERVICE_UNAVAILABLE), Extra::default());
            }
            return Err(Dropped::NoRoom);
        }
        self.peer.served.add(
            (port, message.id),
            digest,
            is_confirmable,
            if is_confirmable { Repeat::Pending } else { Repeat::Ignore },
            self.now_ms,
        );
        let payload = match self.body(&asker, &asking, key, message.payload) {
            Ok(Some(payload)) => payload,
            Ok(None) => return Ok(()),
            Err(dropped) => return Err(dropped),
        };
        let number = self.chance.next_number();
        let lifetime_ms = if is_confirmable { EXCHANGE_LIFETIME_MS } else { NON_LIFETIME_MS };
        // A stranger gets his answer together with the acknowledgement or not at all, so that it is sent once.
        let is_acknowledged_alone = is_confirmable && self.peer.is_proven();
        let acknowledge_ms = is_acknowledged_alone.then_some(self.now_ms + EMPTY_ACK_MS);
        let expires_ms = self.now_ms + lifetime_ms;
        let is_proven = self.peer.is_proven();
        self.peer.begun_work().pending.push(Pending { number, asker, key, acknowledge_ms, expires_ms });
        self.happened(Event::Asked(Asked {
            receipt: Receipt { address: self.address, number },
            from: self.address,
            is_proven,
            is_confirmable,
            method: message.code,
            path: asking.path,
            queries: asking.queries,
            content_format: asking.content_format,
            accept: asking.accept,
            payload,
        }));
        Ok(())
    }

    /// The body of a request; none as long as blocks of it are missing.
    fn body(
        &mut self,
        asker: &Asker,
        asking: &Asking,
        key: BodyKey,
        payload: &[u8],
    ) -> Result<Option<Vec<u8>>, Dropped> {
        let Some(block) = asker.block1 else { return Ok(Some(payload.to_vec())) };
        let bytes_max = self.body_bytes_max();
        let announced = asking.size1.map_or(0, |size| usize::try_from(size).unwrap_or(usize::MAX));
        if announced.max(block.offset() + payload.len()) > bytes_max {
            if let Some(work) = self.peer.work_mut() {
                work.assemblies.forget(key, asker.port);
            }
            let extra = Extra { block1: Some(block), size1: u32::try_from(bytes_max).ok() };
            let refusal = (Code::REQUEST_ENTITY_TOO_LARGE, "the body is too large");
            return Err(self.refuse(asker, refusal, extra));
        }
        let is_right_size = if block.has_more {
            payload.len() == block.size.bytes()
        } else {
            payload.len() <= block.size.bytes()
        };
        if !is_right_size {
            let refusal = (Code::BAD_REQUEST, "a block is larger or smaller than it says");
            return Err(self.refuse(asker, refusal, Extra { block1: Some(block), ..Extra::default() }));
        }
        let now_ms = self.now_ms;
        match self.peer.begun_work().assemblies.join(key, asker.port, block, payload, now_ms) {
            Joined::Whole(body) => Ok(Some(body)),
            Joined::Kept => {
                // Smaller blocks may be asked for with the first one (RFC 7959 §2.3).
                let size = if block.number == 0 { block.size.min(self.terms.block_size) } else { block.size };
                let extra = Extra { block1: Some(Block { size, ..block }), ..Extra::default() };
                self.answer(asker, key, Response::new(Code::CONTINUE), extra);
                Ok(None)
            }
            Joined::OutOfOrder => {
                let refusal = (Code::REQUEST_ENTITY_INCOMPLETE, "the blocks before this one are missing");
                Err(self.refuse(asker, refusal, Extra { block1: Some(block), ..Extra::default() }))
            }
        }
    }

    fn body_bytes_max(&self) -> usize {
        let bytes_max = self.terms.body_bytes_max;
        if self.peer.is_proven() { bytes_max } else { bytes_max.min(STRANGER_BODY_BYTES_MAX) }
    }

    /// A message has come that was taken before (§4.5).
    fn repeat(&mut self, port: u16, message: &Message<'_>, repeat: Repeat) {
        match repeat {
            Repeat::Pending | Repeat::Ignore => {}
            Repeat::Acknowledge => {
                self.send(port, Draft::empty(Kind::Acknowledgement, message.id).to_vec());
            }
            Repeat::Code(code) => {
                let mut bytes = Vec::new();
                let mut draft = Draft::new(Kind::Acknowledgement, code, message.id, message.token);
                // It has no options.
                if draft.encode(&mut bytes).is_ok() {
                    self.send(port, bytes);
                }
            }
            Repeat::Echo => {
                let Response { code, content_format, payload, .. } = self.terms.echo_of(message.payload);
                let mut bytes = Vec::new();
                let mut draft = Draft::new(Kind::Acknowledgement, code, message.id, message.token);
                if let Some(format) = content_format {
                    draft.number(option::CONTENT_FORMAT, format.into());
                }
                draft.payload = &payload;
                // It was written before.
                if draft.encode(&mut bytes).is_ok() {
                    self.send(port, bytes);
                }
            }
            Repeat::Kept => {
                let kept = self.peer.work().and_then(|work| work.kept.find(port, message.id));
                if let Some(bytes) = kept.map(<[u8]>::to_vec) {
                    self.send(port, bytes);
                }
            }
        }
    }

    /// Answers a request that cannot be taken, and says why.
    fn refuse(&mut self, asker: &Asker, (code, reason): Refusal, extra: Extra) -> Dropped {
        // Only errors: none is kept for further blocks.
        let key = BodyKey::new(Code::EMPTY, "", &[]);
        self.answer(asker, key, Response::text(code, reason), extra);
        Dropped::BadRequest(code, reason)
    }

    /// The owner's answer. False if the request is not waiting for it any more.
    pub fn respond(&mut self, number: u64, mut response: Response) -> bool {
        if !response.code.is_response() {
            response = Response::new(Code::INTERNAL_SERVER_ERROR);
        }
        let Some(work) = self.peer.work_mut() else { return false };
        let Some(index) = work.pending.iter().position(|pending| pending.number == number) else {
            return false;
        };
        let Pending { asker, key, .. } = work.pending.remove(index);
        // The last block is answered with the whole (RFC 7959 §2.3).
        let block1 = asker.block1.map(|block| Block { has_more: false, ..block });
        self.answer(&asker, key, response, Extra { block1, size1: None });
        true
    }

    /// Sends an answer or a block of it, and keeps what may be asked for again.
    fn answer(&mut self, asker: &Asker, key: BodyKey, response: Response, extra: Extra) {
        let kind = match (asker.is_confirmable, asker.is_acknowledged) {
            (true, false) => Kind::Acknowledgement,
            (true, true) => Kind::Confirmable,
            (false, _) => Kind::NonConfirmable,
        };
        let id = match kind {
            Kind::Acknowledgement => asker.id,
            _ => self.peer.next_response_id(),
        };
        let bytes_max = if self.peer.is_proven() {
            usize::MAX
        } else {
            // Below it: an answer of just so many bytes would be too large.
            asker.asked_bytes * STRANGER_ANSWER_FACTOR_MAX - 1
        };
        let Written { bytes, has_more, is_code_alone, is_whole } =
            write(kind, id, asker, &response, extra, self.terms.block_size, bytes_max);
        let again = match is_code_alone {
            Some(code) => Repeat::Code(code),
            None if response.is_echo && is_whole => Repeat::Echo,
            None => Repeat::Kept,
        };
        // After the last block too: the request for it may come again.
        let is_in_blocks = has_more || asker.block2.is_some_and(|block| block.number > 0);
        let has_room = response.payload.len() <= self.room_bytes
            && self.peer.held_bytes() + response.payload.len() <= PEER_BYTES_MAX;
        if is_in_blocks && response.code.is_success() && has_room {
            let now_ms = self.now_ms;
            self.peer.begun_work().answers.keep(key, response, now_ms);
        }
        self.remember(asker, kind, &bytes, again);
        if kind == Kind::Confirmable {
            let timeout_ms = self.ack_timeout_ms();
            let due_ms = self.now_ms + timeout_ms;
            let (port, bytes) = (asker.port, bytes.clone());
            let separate = Separate { id, port, bytes, attempts: 0, timeout_ms, due_ms };
            self.peer.begun_work().separate.push(separate);
        }
        self.send(asker.port, bytes);
    }

    /// What its request gets that comes again.
    fn remember(&mut self, asker: &Asker, kind: Kind, bytes: &[u8], again: Repeat) {
        let Asker { port, id, .. } = *asker;
        match kind {
            // Nothing is kept for one that was not remembered: it may be made again.
            Kind::Acknowledgement if self.peer.served.set(port, id, again) && again == Repeat::Kept => {
                let (served, work) = self.peer.served_and_work();
                work.kept.add(port, id, bytes, served);
            }
            Kind::Confirmable => _ = self.peer.served.set(port, id, Repeat::Acknowledge),
            _ => {}
        }
    }

    /// An ACK or RST of a response that was sent apart. False if there is none.
    pub fn response_settled(&mut self, port: u16, id: u16) -> bool {
        let Some(work) = self.peer.work_mut() else { return false };
        let before = work.separate.len();
        work.separate.retain(|separate| separate.id != id || separate.port != port);
        work.separate.len() < before
    }

    /// Acknowledges requests whose answers take long, and sends responses again.
    pub fn serving_timer(&mut self) {
        let now_ms = self.now_ms;
        let Some(work) = self.peer.work_mut() else { return };
        let mut acknowledged = Vec::new();
        for pending in &mut work.pending {
            if pending.acknowledge_ms.is_some_and(|due_ms| due_ms <= now_ms) {
                pending.acknowledge_ms = None;
                pending.asker.is_acknowledged = true;
                acknowledged.push((pending.asker.port, pending.asker.id));
            }
        }
        let mut again = Vec::new();
        work.separate.retain_mut(|separate| {
            if separate.due_ms > now_ms {
                return true;
            }
            if separate.attempts >= RETRANSMIT_MAX {
                return false;
            }
            separate.attempts += 1;
            separate.timeout_ms *= 2;
            separate.due_ms = now_ms + separate.timeout_ms;
            again.push((separate.port, separate.bytes.clone()));
            true
        });
        for (port, id) in acknowledged {
            self.peer.served.set(port, id, Repeat::Acknowledge);
            self.send(port, Draft::empty(Kind::Acknowledgement, id).to_vec());
        }
        for (port, bytes) in again {
            self.send_again(port, bytes);
        }
    }
}
