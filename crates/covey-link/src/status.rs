//! How a link to a broker that is not part of the process is.

/// Whether messages can go both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkStatus {
    /// They can.
    Up,
    /// The broker is there and takes no messages from this server at present.
    Blocked,
    /// The broker is out of reach; the link goes on trying.
    Down,
}

impl LinkStatus {
    /// Each status with its name.
    pub const NAMES: [(Self, &'static str); 3] =
        [(Self::Up, "up"), (Self::Blocked, "blocked"), (Self::Down, "down")];
}
