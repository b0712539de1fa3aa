//! Any bytes into `campanile::ingest::fuzz::statsd_lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::ingest::fuzz::statsd_lines(bytes));
