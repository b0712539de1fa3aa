//! A segment of a log may be any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::tsdb::fuzz::TARGETS[3].1(bytes));
