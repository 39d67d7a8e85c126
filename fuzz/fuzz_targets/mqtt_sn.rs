//! `covey_fuzz::target::mqtt_sn` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    covey_fuzz::target::mqtt_sn(input);
});
