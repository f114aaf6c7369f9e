//! Bytes as a server gets them; see `net/http/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sward_http::fuzz::requests(bytes));
