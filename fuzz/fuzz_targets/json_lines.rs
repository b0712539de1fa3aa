//! Any bytes into `campanile::ingest::fuzz::json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::ingest::fuzz::json(bytes));
