//! Bounded: every limit of docs/limits.md that one client can reach, with its name in the answer and its count in the metrics,
//! and service for everybody else meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Answer, Client, encode, get, now, request, rest};
use crate::process::Server;

/// A server without an agent, with these limits.
fn limited(limits: &str) -> Server {
    let mut server = Server::new();
    server.write(
        "campanile.yaml",
        &format!("agent: {{enabled: false}}\nlimits: {{{limits}}}\n"),
    );
    server.start();
    server
}

/// Pushes lines of Prometheus's text format.
fn lines(server: &Server, text: &str) -> Answer {
    let headers = [("Content-Type", "text/plain")];
    server
        .client()
        .post("/api/v1/import/prometheus", &headers, text.as_bytes())
}

fn query(server: &Server, text: &str) -> Answer {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let url = format!("{}/api/v1/query", server.url());
    request("POST", &url, &headers, format!("query={}", encode(text)).as_bytes()).expect("an answer")
}

/// How often a limit refused something.
fn refused(client: &Client, limit: &str) -> f64 {
    let page = client.get("/metrics").text();
    let line = format!("campanile_limit_refused_total{{limit=\"{limit}\"}} ");
    page.lines()
        .find_map(|found| found.strip_prefix(&line))
        .map_or(0.0, |count| count.parse().expect("a number"))
}

#[track_caller]
fn expect(server: &Server, answer: &Answer, status: u16, limit: &str, told: &[&str]) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    for part in told {
        assert!(text.contains(part), "{part} is not told: {text}");
    }
    assert!(refused(&server.client(), limit) >= 1.0, "{limit} is not counted");
    if matches!(status, 429 | 503) {
        assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
    }
}

#[test]
fn a_push_over_a_limit_is_refused_by_name_and_the_rest_is_kept() {
    let server = limited(
        "series_per_request_max: 20, labels_per_series_max: 5, label_name_bytes_max: 10, label_value_bytes_max: 30",
    );
    let at = now();
    let many: String = (0..6).map(|n| format!("l{n}=\"x\",")).collect();
    for (series, limit) in [
        (format!("bad{{{many}}} 1 {at}"), "labels_per_series_max"),
        (format!("bad{{much_too_long=\"x\"}} 1 {at}"), "label_name_bytes_max"),
        (
            format!("bad{{a=\"{}\"}} 1 {at}", "x".repeat(31)),
            "label_value_bytes_max",
        ),
        (format!("bad 1 {}", at + 3_600_000), "future_max"),
    ] {
        let answer = lines(&server, &format!("good{{of=\"{limit}\"}} 1 {at}\n{series}\n"));
        expect(&server, &answer, 400, limit, &["bad"]);
    }
    assert_eq!(
        server.client().value("count(good)").as_deref(),
        Some("4"),
        "the good series are kept"
    );
    let crowd: String = (0..21).map(|n| format!("crowd{{n=\"{n}\"}} 1 {at}\n")).collect();
    let answer = lines(&server, &crowd);
    expect(
        &server,
        &answer,
        413,
        "series_per_request_max",
        &["series_per_request_max", "20"],
    );
}

#[test]
fn bodies_are_bounded_before_and_after_decompression() {
    let server = limited("decoded_bytes_max: 1000000, in_flight_bytes_max: 2000000");
    let url = format!("{}/api/v1/write", server.url());
    let remote_write = [
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "snappy"),
    ];
    // A snappy block that claims 2.5 GB in 26 bytes.
    let mut bomb = vec![0x80, 0xF2, 0x8B, 0xA8, 0x09];
    bomb.extend_from_slice(&[0; 21]);
    let answer = request("POST", &url, &remote_write, &bomb).expect("an answer");
    expect(
        &server,
        &answer,
        413,
        "decoded_bytes_max",
        &["decoded_bytes_max", "1000000"],
    );
    let text = format!("# {}\n", "x".repeat(5_000_000));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(text.as_bytes()).expect("memory takes it");
    let gzip = gzip.finish().expect("memory takes it");
    let zstd = zstd::bulk::compress(text.as_bytes(), 3).expect("memory takes it");
    for (encoding, body) in [("gzip", &gzip), ("zstd", &zstd)] {
        let headers = [("Content-Type", "text/plain"), ("Content-Encoding", encoding)];
        let answer = server.client().post("/api/v1/import/prometheus", &headers, body);
        expect(&server, &answer, 413, "decoded_bytes_max", &["1000000"]);
    }
    // Announced and never sent: refused at once, not after it came.
    let mut stream = TcpStream::connect(server.url().replace("http://", "")).expect("a connection");
    let head = "POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nContent-Length: 200000000\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("the head is taken");
    assert!(rest(&mut stream).starts_with("HTTP/1.1 413"));
    let garbage = request("POST", &url, &remote_write, b"\xff\xff\xff\xff\xff\xff").expect("an answer");
    assert_eq!(garbage.status, 400, "{}", garbage.text());
}

#[test]
fn a_large_answer_is_the_same_in_pieces_whether_compressed_or_not() {
    let server = limited("");
    let at = now();
    let lines: String = (0..400).map(|n| format!("large{{n=\"{n}\"}} {n}.25 {at}\n")).collect();
    let answer = server.client().post("/api/v1/import/prometheus", &[], lines.as_bytes());
    assert!(answer.status < 300, "{}", answer.text());
    let (start, end) = (at / 1000, at / 1000 + 250);
    let url = format!(
        "{}/api/v1/query_range?query=large&start={start}&end={end}&step=1",
        server.url()
    );
    let ask = |encoding: &str| {
        let answer = request("GET", &url, &[("Accept-Encoding", encoding)], b"").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            answer.header("transfer-encoding"),
            Some("chunked"),
            "it is sent while it is made"
        );
        answer
    };
    let plain = ask("identity");
    assert_eq!(plain.header("content-encoding"), None);
    assert!(plain.body.len() > 2_000_000, "{} bytes", plain.body.len());
    let series = plain.json()["data"]["result"].as_array().map(Vec::len);
    assert_eq!(series, Some(400));
    let gzip = ask("gzip");
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&gzip.body[..])
        .read_to_end(&mut unpacked)
        .expect("a whole gzip stream");
    assert!(unpacked == plain.body, "gzip differs");
    let zstd = ask("zstd");
    assert_eq!(zstd.header("content-encoding"), Some("zstd"));
    assert!(zstd::decode_all(&zstd.body[..]).expect("a whole zstd stream") == plain.body);
    assert!(gzip.body.len() * 5 < plain.body.len() && zstd.body.len() * 5 < plain.body.len());
}

#[test]
fn a_full_store_refuses_new_series_and_goes_on_with_the_known() {
    let server = limited("active_series: 50");
    let at = now();
    let of = |range: std::ops::Range<u32>, at: i64| -> String {
        range.map(|n| format!("m{{n=\"{n}\"}} 1 {at}\n")).collect()
    };
    assert_eq!(lines(&server, &of(0..50, at)).status, 204);
    let answer = lines(&server, &of(40..60, at + 1));
    expect(&server, &answer, 400, "active_series", &["active_series", "50"]);
    assert_eq!(lines(&server, &of(0..50, at + 2)).status, 204, "known series go on");
    assert_eq!(server.client().value("count(m)").as_deref(), Some("50"));
}

#[test]
fn a_query_of_death_ends_at_a_limit_within_a_second_or_its_time() {
    let server = limited("query_time: 2s, query_samples: 10000, query_series: 100, query_memory_bytes: 4000000");
    let at = now();
    for batch in 0..4 {
        let text: String = (0..500)
            .map(|n| format!("m{{a=\"{}\",b=\"{}\"}} {n} {}\n", batch * 5 + n % 5, n / 5, at - 1000))
            .collect();
        assert_eq!(lines(&server, &text).status, 204);
    }
    let nested = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    let unary = format!("{}1", "-".repeat(10_000));
    let chain = format!("1{}", "+1".repeat(500_000));
    let long_regex = format!("m{{a=~\"{}\"}}", "x".repeat(5000));
    for (text, status, told) in [
        (nested.as_str(), 400, "nest"),
        (unary.as_str(), 400, ""),
        (chain.as_str(), 413, "1048576"),
        (long_regex.as_str(), 400, "4096"),
        ("m{a=~\"(((x{100}){100}){100})\"}", 400, ""),
        ("m", 422, "query_series"),
        ("count_over_time(m{a=\"1\"}[1d:1ms])", 422, ""),
        (
            "sum_over_time(sum_over_time(sum_over_time(vector(1)[30d:1ms])[30d:1ms])[30d:1ms])",
            0,
            "",
        ),
    ] {
        let began = Instant::now();
        let answer = query(&server, text);
        let took = began.elapsed();
        let shown: String = text.chars().take(60).collect();
        let expected = if status == 0 {
            matches!(answer.status, 400 | 422 | 503)
        } else {
            answer.status == status
        };
        assert!(expected, "{shown}: {} {}", answer.status, answer.text());
        assert!(answer.text().contains(told), "{shown}: {}", answer.text());
        assert!(took < Duration::from_secs(5), "{shown} took {took:?}");
    }
    let points = server
        .client()
        .get("/api/v1/query_range?query=m&start=0&end=1000000&step=1");
    assert!(
        points.status == 400 && points.text().contains("11,000"),
        "{}",
        points.text()
    );
    assert_eq!(query(&server, "1 + 1").status, 200, "the next one is answered");
}

#[test]
fn slow_and_idle_clients_are_cut_off_and_many_of_them_stop_nobody() {
    let server = limited(
        "http_header_time: 1s, http_body_time: 2s, http_idle_time: 1s, http_connections: 40, http_connections_per_address: 30",
    );
    let address = server.url().replace("http://", "");
    let open = || TcpStream::connect(&address).expect("a connection");
    let mut header = open();
    header
        .write_all(b"GET /metrics HTTP/1.1\r\nHost:")
        .expect("bytes are taken");
    let mut body = open();
    let head = b"POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nContent-Length: 100\r\n\r\nx";
    body.write_all(head).expect("bytes are taken");
    let mut idle = open();
    assert!(rest(&mut header).starts_with("HTTP/1.1 408"));
    assert_eq!(rest(&mut idle), "");
    assert!(rest(&mut body).starts_with("HTTP/1.1 408"));
    let mut large = open();
    let line = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let _ = large.write_all(line.as_bytes());
    let answer = rest(&mut large);
    assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    let crowd: Vec<TcpStream> = (0..100).map(|_| open()).collect();
    for _ in 0..10 {
        assert_eq!(
            get(&format!("{}/-/healthy", server.url()))
                .expect("service goes on")
                .status,
            200
        );
    }
    assert!(refused(&server.client(), "http_connections_per_address") >= 60.0);
    drop(crowd);
}

#[test]
fn silences_are_bounded_in_size() {
    let server = limited("");
    let silence = |comment: &str| {
        let json = serde_json::json!({
            "matchers": [{"name": "a", "value": "b", "isRegex": false, "isEqual": true}],
            "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z", "createdBy": "test", "comment": comment,
        });
        let headers = [("Content-Type", "application/json")];
        server
            .client()
            .post("/api/v2/silences", &headers, json.to_string().as_bytes())
    };
    assert_eq!(silence("short").status, 200);
    let long = silence(&"x".repeat(100_000));
    assert!(matches!(long.status, 400 | 413), "{} {}", long.status, long.text());
}
