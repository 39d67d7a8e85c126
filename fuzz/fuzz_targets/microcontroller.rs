//! `covey_fuzz::target::microcontroller` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    covey_fuzz::target::microcontroller(input);
});
