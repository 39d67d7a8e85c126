//! CoAP: its bytes, its exchanges over a network that loses and repeats, and programs that others wrote.

mod bed;
mod blocks;
mod bounds;
mod bytes;
mod calling;
mod dtls;
mod foreign;
mod link_format;
mod loss;
mod mutation;
mod network;
mod observing;
mod round_trip;
mod serving;
mod socket;
mod strangers;
