//! Any bytes into `campanile::ingest::fuzz::datadog_series`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::ingest::fuzz::datadog_series(bytes));
