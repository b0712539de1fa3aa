//! Events for tests, and golden bytes.

use super::{Event, EventId, Field, Kind, Micros, Reasons, Texts};
use crate::model::Millis;

/// A net click.
pub(crate) fn click(event_id: &str, ad: &str, at: i64) -> Event {
    event(Kind::Click, at, &[(Field::EventId, event_id), (Field::AdId, ad)])
}

/// An event with these texts, received when it happened.
pub(crate) fn event(kind: Kind, at: i64, texts: &[(Field, &str)]) -> Event {
    let text_of = |field| {
        texts
            .iter()
            .find(|(own, _)| *own == field)
            .map_or("", |(_, text)| *text)
    };
    Event {
        id: EventId::of(text_of(Field::EventId)),
        kind,
        at: Millis(at),
        stamped: Millis(at),
        received: Millis(at),
        reasons: Reasons::NONE,
        price: Micros::ZERO,
        revenue: Micros::ZERO,
        user: None,
        ip: None,
        visitor: None,
        rules: 1,
        texts: Texts::join(text_of).expect("test texts are short"),
    }
}

/// Compares bytes with a hex dump in `tests/golden/events/`; `UPDATE_GOLDEN=1` writes it.
pub(crate) fn golden(name: &str, bytes: &[u8]) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/events")
        .join(name);
    let lines: Vec<String> = bytes
        .chunks(16)
        .map(|row| {
            row.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let text = lines.join("\n") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("the golden folder can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{}", path.display());
}

/// Returns the bytes of a hex dump in `tests/golden/events/`.
pub(crate) fn golden_bytes(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/events")
        .join(name);
    let text = std::fs::read_to_string(path).expect("the dump is committed");
    let bytes = text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16));
    bytes.collect::<Result<_, _>>().expect("the dump is hex")
}
