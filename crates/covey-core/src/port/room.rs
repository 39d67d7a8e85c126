//! How much room the disk has, and what is done with the little that is left.

use crate::error::StorageFault;
use crate::named::named;

named! {
    /// How much room is left where the store is.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
    #[repr(u8)]
    pub enum Room {
        /// Enough.
        #[default]
        Enough = 0 => "up",
        /// Less than must be left.
        Short = 1 => "short",
        /// None: the last write found none.
        Full = 2 => "full",
    }
}

/// What an operation needs room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// For something new, such as a task, an event or a device.
    New,
    /// To go on with what was taken before, such as the result of a call.
    Running,
    /// To end, delete or shut out: it makes room, or keeps whoever takes it from taking more. So is what writes one row
    /// again and again, without which more would end than has no room.
    Relief,
}

impl Room {
    /// Why there is no room for this; none if there is.
    #[must_use]
    pub const fn refuses(self, need: Need) -> Option<StorageFault> {
        match (self, need) {
            (Self::Enough, _) | (_, Need::Relief) | (Self::Short, Need::Running) => None,
            (Self::Short, Need::New) => Some(StorageFault::Short),
            (Self::Full, Need::New | Need::Running) => Some(StorageFault::Full),
        }
    }

    /// What is short and what is refused for it, for anyone to read; none while nothing is.
    #[must_use]
    pub const fn why(self) -> Option<&'static str> {
        match self {
            Self::Enough => None,
            Self::Short => Some("less room is left than --disk-free-min: nothing new is taken"),
            Self::Full => Some("no room is left: only deletions and revocations are taken"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_room_is_left_the_less_is_taken_and_relief_always() {
        for (room, taken) in [
            (Room::Enough, [true, true, true]),
            (Room::Short, [false, true, true]),
            (Room::Full, [false, false, true]),
        ] {
            let found = [Need::New, Need::Running, Need::Relief].map(|need| room.refuses(need).is_none());
            assert_eq!(found, taken, "{room:?}");
            assert_eq!(room.why().is_none(), room == Room::Enough);
        }
    }
}
