//! In whose turn something waits for the store.

use crate::id::OrgId;

/// In whose turn a job is run, or a read is made. Turns go round: whoever has much waiting delays
/// others by one turn, and itself alone by all of it. What is in one turn keeps its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    /// What the applications and devices of an organisation ask for.
    Org(OrgId),
    /// What an organisation does to shut somebody out: it does not wait behind what that somebody
    /// has waiting.
    ShutOut(OrgId),
    /// What the server does itself, and what belongs to no organisation yet.
    Server,
}

impl Turn {
    /// Whether room is kept for it: what others have waiting never leaves it without a place.
    #[must_use]
    pub const fn is_reserved(self) -> bool {
        matches!(self, Self::ShutOut(_) | Self::Server)
    }
}
