//! Every decoder of the block format takes any bytes without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campanile::tsdb::block::decode_any(bytes));
