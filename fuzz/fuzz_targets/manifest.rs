//! A manifest is read from any bytes without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::tsdb::decode_any_manifest(bytes));
