//! Any bytes into `campanile::ingest::fuzz::decompress_any`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::ingest::fuzz::decompress_any(bytes));
