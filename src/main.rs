//! The binary: reads arguments and calls the library.

/// Long-lived servers need freed memory back, whichever thread it was used by.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    campanile::cli::main()
}
