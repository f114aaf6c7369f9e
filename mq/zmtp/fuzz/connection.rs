//! Bytes as a connection gets them; see `mq/zmtp/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sward_zmtp::fuzz::connection(bytes));
