//! `covey_fuzz::target::units` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    covey_fuzz::target::units(input);
});
