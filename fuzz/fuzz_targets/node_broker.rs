//! `covey_fuzz::target::node_broker` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    covey_fuzz::target::node_broker(input);
});
