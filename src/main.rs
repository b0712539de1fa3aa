//! The binary: reads arguments and calls the library.

fn main() {}
