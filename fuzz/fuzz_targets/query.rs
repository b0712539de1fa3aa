//! `cargo fuzz run query`: any text is a query or an error, prints and parses again to the same, and evaluates within limits.
#![no_main]

use campanile::model::{Interval, Labels, Millis};
use campanile::query::{Engine, QueryOptions, parse, print};
use campanile::storage::LiteralStore;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(expr) = parse(text) else { return };
    let printed = expr.to_string();
    let again = parse(&printed).expect("a printed query parses");
    assert_eq!(again.to_string(), printed);
    assert_eq!(parse(&print::format(&expr)).expect("a formatted query parses").to_string(), printed);
    let _ = print::to_json(&expr);
    let store = LiteralStore::new();
    for name in ["foo", "bar"] {
        let labels = Labels::from_pairs([("__name__", name), ("a", "b")]);
        (0..10).for_each(|i| store.put(&labels, Millis(i * 15_000), i as f64));
    }
    let options = QueryOptions { samples_max: 100_000, ..QueryOptions::default() };
    let _ = Engine.instant(&store, &expr, Millis(120_000), &options);
    let _ = Engine.range(&store, &expr, Millis(0), Millis(120_000), Interval::secs(30), &options);
});
