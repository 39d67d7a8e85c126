//! The words in which a roster, its port and its protocol speak of nodes.

use std::sync::Arc;

/// The uid under which a node is known to its gateway.
pub type Uid = Arc<str>;

/// How a gateway's protocol tells that a write was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// By an answer, which the protocol passes on ([`Roster::written`](super::Roster::written)).
    Answer,
    /// By the node's next report of the resource, if one comes within so many milliseconds after the value has left
    /// ([`Roster::sent`](super::Roster::sent)).
    Report {
        /// How long it is waited for.
        ms_max: u64,
    },
}

/// What a gateway's protocol is like.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// After how long a silence a node is out, in milliseconds; none where its connection tells.
    pub silence_ms_max: Option<u64>,
    /// How a write is confirmed.
    pub confirmation: Confirmation,
    /// Whether a report is a sign of life, too.
    pub reports_are_life: bool,
    /// For how long the reports of nodes are gathered that come close upon each other, in milliseconds, so that they are
    /// stored together; 0: each is told at once. One that comes alone is always told at once.
    pub together_ms: u64,
}

/// Whether a node may join, in the words of the port.
#[derive(Clone, Debug)]
pub enum Verdict<H> {
    /// It may, and is this to the port.
    Joined(H),
    /// Not now: somebody must say yes first, or has said no.
    Refused(&'static str),
    /// Nobody can tell now.
    Failed,
}

/// Whether a node that gave a sign of life was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was not, and is now.
    New,
    /// It was.
    Known,
    /// It was not, and there is no room for it.
    NoRoom,
}

/// Why a node is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It said goodbye.
    Clean,
    /// Its connection was lost.
    Lost,
    /// It was silent for too long.
    Silent,
    /// It may no longer take part.
    Revoked,
    /// The gateway ends.
    Stopped,
}

/// What became of something that a node said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is stored, or may be forgotten: nobody wants it of this node.
    Done,
    /// It is refused for good.
    Refused,
    /// It can be said again later.
    Later,
}

/// A write that the port hands out: values in the order in which they are set, as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write<W> {
    /// Which one, in words of the port.
    pub id: W,
    /// Resource and value.
    pub values: Vec<(String, Arc<str>)>,
    /// When nobody wants it any more, in milliseconds of the roster's clock.
    pub until_ms: u64,
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// A status code as of HTTP.
    pub status: u16,
    /// JSON text.
    pub body: String,
}

/// What a node answered to one value that was written, in the words of its protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has taken the value, and it is now this JSON text.
    Set(Arc<str>),
    /// It has refused it.
    Refused {
        /// A status code as of HTTP.
        status: u16,
        /// Why.
        text: String,
    },
    /// It has not answered.
    None,
    /// It hears no such value now, and was not told. That is no attempt: nodes listen some time after they are there.
    NotListening {
        /// For how long it has been connected, in milliseconds; none if it is not.
        connected_ms: Option<u64>,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Action<H, W, A> {
    /// The port is asked whether a node may join; it answers to [`Roster::joined`](super::Roster::joined).
    Ask {
        /// Which node.
        uid: Uid,
        /// Which of its appearances.
        visit: u64,
        /// Where it was heard.
        address: Arc<str>,
    },
    /// The port is told that a node is here.
    Came {
        /// Which node.
        uid: Uid,
        /// What it is to the port.
        node: H,
        /// Which of its appearances.
        visit: u64,
        /// Where it was heard.
        address: Arc<str>,
    },
    /// The port is told values; it answers to [`Roster::reported`](super::Roster::reported).
    Report {
        /// Which node.
        uid: Uid,
        /// Which of its appearances.
        visit: u64,
        /// What it is to the port.
        node: H,
        /// Resource and value, as JSON text, in the order in which they came.
        values: Vec<(String, Arc<str>)>,
        /// Who waits to hear that it is done.
        acks: Vec<A>,
    },
    /// The port is told that a node is gone.
    Went {
        /// What it is to the port.
        node: H,
        /// Which of its appearances.
        visit: u64,
        /// Why.
        why: Gone,
    },
    /// The port is asked for the next write of a node; it answers to [`Roster::next_write`](super::Roster::next_write).
    NextWrite {
        /// Which node.
        uid: Uid,
        /// Which of its appearances.
        visit: u64,
        /// What it is to the port.
        node: H,
    },
    /// The port is told what came of a write.
    Finish {
        /// What the node is to the port.
        node: H,
        /// Which write.
        write: W,
        /// What came of it.
        outcome: Outcome,
    },
    /// The port is told that a write has not left for as long as it was wanted; it is asked for the next one then, which
    /// may be the same.
    GiveBack {
        /// What the node is to the port.
        node: H,
        /// Which write.
        write: W,
    },
    /// The port is told that a node has begun anew.
    Reset {
        /// What it is to the port.
        node: H,
    },
    /// The protocol asks the node what it has.
    Discover {
        /// Which node.
        uid: Uid,
        /// Whether something that it said was not heard.
        is_missed: bool,
    },
    /// The protocol writes a value.
    Set {
        /// Which node.
        uid: Uid,
        /// Which of the writes of the roster: given back with the answer.
        number: u64,
        /// The resource.
        resource: String,
        /// The value, as JSON text.
        value: Arc<str>,
    },
    /// The protocol does not send a value any more that has not left.
    Withdraw {
        /// Which node.
        uid: Uid,
        /// Which of the writes of the roster.
        number: u64,
    },
    /// The protocol need not know the node any more.
    Forget {
        /// Which node.
        uid: Uid,
    },
    /// The protocol closes what it holds of the node.
    Close {
        /// Which node.
        uid: Uid,
    },
    /// Who waits hears what became of it.
    Tell {
        /// Who waits.
        ack: A,
        /// What became of it.
        heard: Heard,
    },
}
