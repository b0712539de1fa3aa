//! The parser's own tests; more lives as data in `tests/golden/query/`.

use proptest::prelude::*;

use super::*;

fn message(text: &str) -> String {
    match parse(text) {
        Err(QueryError::Parse { message, .. }) => message,
        other => panic!("{text:?} gave {other:?}"),
    }
}

fn hint(text: &str) -> String {
    match parse(text) {
        Err(QueryError::Parse { hint, .. }) => hint,
        other => panic!("{text:?} gave {other:?}"),
    }
}

#[test]
fn errors_have_prometheus_words_and_places() {
    for (text, wanted) in [
        ("", "1:1: parse error: no expression found in input"),
        ("1 /", "1:4: parse error: unexpected end of input"),
        ("((1)", "1:5: parse error: unclosed left parenthesis"),
        ("*test", "1:1: parse error: unexpected <op:*>"),
        (
            "sum some_metric by (test)",
            "1:5: parse error: unexpected identifier \"some_metric\"",
        ),
        (
            "foo{a=b}",
            "1:7: parse error: unexpected identifier \"b\" in label matching, expected string",
        ),
        (
            "foo{,}",
            "1:5: parse error: unexpected \",\" in label matching, expected identifier or \"}\"",
        ),
        (
            "sum without(==)(x)",
            "1:13: parse error: unexpected <op:==> in grouping opts, expected label",
        ),
        (
            "rate(foo)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        (
            "abs()",
            "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 0",
        ),
        ("nope()", "1:1: parse error: unknown function with name \"nope\""),
        (
            "1 ==\n 1",
            "1:3: parse error: comparisons between scalars must use BOOL modifier",
        ),
        (
            "foo +\n  bar[5m]",
            "2:3: parse error: binary expression must contain only scalar and instant vector types",
        ),
        (
            "foo offset 1s offset 2s",
            "1:15: parse error: offset may not be set multiple times",
        ),
        ("foo[5m1m]", "1:5: parse error: not a valid duration string: \"5m1m\""),
        (
            "{a=\"\"}",
            "1:1: parse error: vector selector must contain at least one non-empty matcher",
        ),
        (
            "topk(a, b)",
            "1:6: parse error: expected type scalar in aggregation parameter, got instant vector",
        ),
    ] {
        assert_eq!(message(text), wanted, "{text}");
    }
}

#[test]
fn a_hint_shows_the_place_and_what_might_be_meant() {
    assert_eq!(
        hint("sum(raet(foo[5m]))"),
        "sum(raet(foo[5m]))\n    ^^^^\ndid you mean \"rate\"?"
    );
    assert!(hint("rate(foo)").ends_with("select a window: foo[5m]"));
    assert!(hint("http.requests").contains("{\"http.requests\"}"));
}

#[test]
fn signs_and_powers_bind_as_in_prometheus() {
    let shape = |text: &str| to_shape(&parse(text).unwrap());
    assert_eq!(shape("-a^b"), "(-(a^b))");
    assert_eq!(shape("-a*b"), "((-a)*b)");
    assert_eq!(shape("a^b^c"), "(a^(b^c))");
    assert_eq!(shape("a-b-c"), "((a-b)-c)");
    assert_eq!(shape("a or b and c == d + e * f"), "(aor(band(c==(d+(e*f)))))");
    assert_eq!(shape("2^-a*b"), "((2^(-a))*b)");
}

fn to_shape(expr: &Expr) -> String {
    match &*expr.kind {
        ExprKind::Unary { op, expr } => format!("({}{})", op.as_str(), to_shape(expr)),
        ExprKind::Binary(binary) => format!("({}{}{})", to_shape(&binary.lhs), binary.op, to_shape(&binary.rhs)),
        _ => expr.to_string(),
    }
}

#[test]
fn depth_and_length_are_limited_at_once() {
    let nested = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    assert!(parse(&nested(100)).is_ok());
    assert!(message(&nested(101)).ends_with("nested too deeply, the limit is 100 levels"));
    assert!(message(&nested(10_000)).contains("nested too deeply"));
    assert!(message(&"-".repeat(10_000)).contains("nested too deeply"));
    assert!(message(&"1^".repeat(10_000)).contains("nested too deeply"));
    assert!(message(&format!("foo[{}", "(".repeat(10_000))).contains("nested too deeply"));
    assert!(message(&"1+".repeat(500_000)).contains("bytes long, the limit is 65536"));
    assert!(message(&"1+".repeat(10_000)).contains("too many parts in a row, the limit is 250"));
    let deep = "a or b and c == d + e * -(".repeat(24) + "a" + &")".repeat(24);
    assert!(parse(&deep).is_ok());
}

#[test]
fn a_selector_is_read_for_match() {
    let matchers = parse_selector("up{job=~\"a|b\"}").unwrap();
    assert_eq!(matchers.len(), 2);
    for text in ["", "up[5m]", "up offset 5m", "{}", "sum(up)", "{a=\"\"}"] {
        assert!(parse_selector(text).is_err(), "{text:?} was read");
    }
}

#[test]
fn every_function_example_parses() {
    for function in crate::query::functions::FUNCTIONS {
        if let Err(error) = parse(function.example) {
            panic!("{}: {error}", function.example);
        }
    }
}

/// Pieces whose random sequences are often nearly queries.
const PIECES: [&str; 60] = [
    "foo",
    "sum",
    "rate",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "5m",
    "1",
    "-",
    "+",
    "*",
    "/",
    "^",
    "==",
    "bool",
    "on",
    "by",
    ",",
    "\"a\"",
    "'",
    "`",
    "=",
    "=~",
    "!=",
    "!~",
    "offset",
    "@",
    "start()",
    "end()",
    "step()",
    "range()",
    "min_of",
    ":",
    "and",
    "or",
    "unless",
    "group_left",
    "fill",
    "anchored",
    "smoothed",
    "without",
    "ignoring",
    "</",
    ">/",
    "#",
    "\n",
    "\\x",
    "é",
    "\u{0}",
    "Inf",
    "0x",
    "1e",
    ".",
    "_",
    "topk",
    "info",
    "count_values",
];

proptest! {
    #[test]
    fn any_text_is_a_query_or_an_error(text in "\\PC{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_pieces_are_a_query_that_prints_and_parses_or_an_error(
        pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..24),
    ) {
        let text = pieces.join(" ");
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            let again = parse(&printed).unwrap_or_else(|error| panic!("{text:?} printed as {printed:?}: {error}"));
            prop_assert_eq!(again.to_string(), printed);
            let page = crate::query::print::format(&expr);
            prop_assert_eq!(parse(&page).expect("a formatted query parses").to_string(), expr.to_string());
            let _ = crate::query::print::to_json(&expr);
        }
    }
}
