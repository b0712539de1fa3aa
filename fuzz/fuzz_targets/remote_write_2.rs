//! Any bytes into `campanile::ingest::fuzz::remote_write_2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::ingest::fuzz::remote_write_2(bytes));
