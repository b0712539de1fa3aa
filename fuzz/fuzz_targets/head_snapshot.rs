//! A snapshot of the head may be any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::tsdb::fuzz::TARGETS[1].1(bytes));
