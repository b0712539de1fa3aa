//! Any bytes into `campanile::ingest::fuzz::prometheus_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::ingest::fuzz::prometheus_text(bytes));
