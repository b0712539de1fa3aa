//! Any bytes into `campanile::ingest::fuzz::exposition_families`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::ingest::fuzz::exposition_families(bytes));
