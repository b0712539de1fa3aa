//! Any bytes into `campanile::ingest::fuzz::remote_write_1`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::ingest::fuzz::remote_write_1(bytes));
