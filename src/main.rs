//! The binary: reads arguments and calls the library.

fn main() -> std::process::ExitCode {
    campanile::cli::main()
}
