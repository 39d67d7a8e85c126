//! What reads bytes of strangers, each as a target for a fuzzer. `fuzz/` has a program for libFuzzer for each of them;
//! `tests/corpus.rs` runs all of them over their corpus and over mutations of it. A target panics if a rule is broken.

mod mutation;
pub mod target;

pub use mutation::mutated;

/// What is tried: a name, which is that of the folder with its corpus, and what reads the bytes and answers whether it could.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All of them.
pub const TARGETS: &[Target] = &[
    ("api_request", target::api_request),
    ("certificate_request", target::certificate_request),
    ("coap", target::coap),
    ("device_message", target::device_message),
    ("link_format", target::link_format),
    ("microcontroller", target::microcontroller),
    ("mqtt", target::mqtt),
    ("mqtt_sn", target::mqtt_sn),
    ("node_broker", target::node_broker),
    ("node_passwords", target::node_passwords),
    ("pusher", target::pusher),
    ("server_message", target::server_message),
    ("token", target::token),
    ("token_keys", target::token_keys),
    ("topic", target::topic),
    ("units", target::units),
];
