//! A file of head chunks may be any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::tsdb::fuzz::TARGETS[0].1(bytes));
