//! The page in a real browser: `tests/browser/run.mjs` against this build's binary.

use std::process::Command;

#[test]
fn the_page_works_in_a_real_browser() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/run.mjs");
    let required = std::env::var("CAMPANILE_REQUIRE_ALL").as_deref() == Ok("1");
    let output = Command::new("node")
        .arg(script)
        .env("CAMPANILE_BIN", env!("CARGO_BIN_EXE_campanile"))
        .output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}\n{errors}");
            println!("{text}");
        }
        Err(error) if required => panic!("node does not run: {error}"),
        Err(error) => println!("skipped: node does not run: {error}"),
    }
}
