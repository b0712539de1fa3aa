//! A record of the store's log may be any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::tsdb::fuzz::TARGETS[2].1(bytes));
