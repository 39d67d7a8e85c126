//! Bodies that come in blocks, and those that are fetched in blocks (RFC 7959).

use std::hash::{DefaultHasher, Hash, Hasher};

use super::event::Response;
use super::terms::{ANSWERS_MAX, ASSEMBLIES_MAX, BLOCK_WAIT_MS_MAX};
use crate::coap::message::{Block, Code};

/// What two requests have alike whose blocks belong together: method, path and query (RFC 7959 §2). The endpoint
/// is the peer's address; its port only counts where it tells two bodies apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BodyKey(u64);

impl BodyKey {
    pub fn new(method: Code, path: &str, queries: &[String]) -> Self {
        let mut hasher = DefaultHasher::new();
        (method, path, queries).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// A body of which blocks have come.
#[derive(Debug)]
struct Assembly {
    key: BodyKey,
    port: u16,
    body: Vec<u8>,
    touched_ms: u64,
}

/// The bodies of a peer that come in blocks; the one that was begun first comes first.
#[derive(Debug, Default)]
pub(super) struct Assemblies {
    entries: Vec<Assembly>,
}

/// What became of a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// Others are to follow.
    Kept,
    /// It was the last: the whole body.
    Whole(Vec<u8>),
    /// The blocks before it are not there, or it has come before.
    OutOfOrder,
}

impl Assemblies {
    /// Takes a block, whose size has been checked.
    pub fn join(&mut self, key: BodyKey, port: u16, block: Block, payload: &[u8], now_ms: u64) -> Joined {
        let offset = block.offset();
        if offset == 0 {
            self.entries.retain(|assembly| assembly.key != key || assembly.port != port);
            if !block.has_more {
                return Joined::Whole(payload.to_vec());
            }
            if self.entries.len() >= ASSEMBLIES_MAX {
                self.entries.remove(0);
            }
            self.entries.push(Assembly { key, port, body: payload.to_vec(), touched_ms: now_ms });
            return Joined::Kept;
        }
        let same = |assembly: &Assembly| assembly.key == key && assembly.port == port;
        // A node may send each block from another port.
        let next = |assembly: &Assembly| assembly.key == key && assembly.body.len() == offset;
        let Some(index) = self.entries.iter().position(same).or_else(|| self.entries.iter().position(next))
        else {
            return Joined::OutOfOrder;
        };
        let Some(assembly) = self.entries.get_mut(index).filter(|assembly| assembly.body.len() == offset)
        else {
            return Joined::OutOfOrder;
        };
        assembly.body.extend_from_slice(payload);
        assembly.touched_ms = now_ms;
        if block.has_more {
            return Joined::Kept;
        }
        Joined::Whole(self.entries.remove(index).body)
    }

    pub fn forget(&mut self, key: BodyKey, port: u16) {
        self.entries.retain(|assembly| assembly.key != key || assembly.port != port);
    }

    pub fn expire(&mut self, now_ms: u64) {
        self.entries.retain(|assembly| assembly.touched_ms + BLOCK_WAIT_MS_MAX > now_ms);
    }

    pub fn clear(&mut self) {
        self.entries = Vec::new();
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn held_bytes(&self) -> usize {
        let bodies: usize = self.entries.iter().map(|assembly| assembly.body.capacity()).sum();
        bodies + self.entries.capacity() * size_of::<Assembly>()
    }
}

/// An answer of which the peer may ask for another block.
#[derive(Debug)]
struct Answer {
    key: BodyKey,
    response: Response,
    touched_ms: u64,
}

/// The answers of a peer that it fetches in blocks; the one that was given first comes first.
#[derive(Debug, Default)]
pub(super) struct Answers {
    entries: Vec<Answer>,
}

impl Answers {
    /// Takes the answer out, for a block of it to be sent.
    pub fn take(&mut self, key: BodyKey) -> Option<Response> {
        let index = self.entries.iter().position(|answer| answer.key == key)?;
        Some(self.entries.remove(index).response)
    }

    pub fn keep(&mut self, key: BodyKey, response: Response, now_ms: u64) {
        self.entries.retain(|answer| answer.key != key);
        if self.entries.len() >= ANSWERS_MAX {
            self.entries.remove(0);
        }
        self.entries.push(Answer { key, response, touched_ms: now_ms });
    }

    pub fn expire(&mut self, now_ms: u64) {
        self.entries.retain(|answer| answer.touched_ms + BLOCK_WAIT_MS_MAX > now_ms);
    }

    pub fn clear(&mut self) {
        self.entries = Vec::new();
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn held_bytes(&self) -> usize {
        let bodies: usize = self.entries.iter().map(|answer| answer.response.payload.capacity()).sum();
        bodies + self.entries.capacity() * size_of::<Answer>()
    }
}
