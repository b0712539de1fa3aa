//! Any bytes into `campanile::ingest::fuzz::otlp_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::ingest::fuzz::otlp_request(bytes));
