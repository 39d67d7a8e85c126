//! Tokens: what is read of rubbish, and what is taken of tokens with faults.

#![allow(clippy::unwrap_used)]

mod mutation;
mod own;
mod waiting;
