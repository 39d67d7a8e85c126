//! Events from the queue to a server and back: their order, what each acknowledgement does, and
//! what a kill leaves. The server's side is played by a script, for no server says "not now" or
//! falls silent on demand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod delivery;
mod kill;
mod play;
