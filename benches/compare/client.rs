//! A plain HTTP client on one kept-alive connection, a process's CPU time, and whether two answers are the same.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// One connection to a server.
pub(crate) struct Client {
    host: String,
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(url: &str) -> Client {
        let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&host).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP option");
        Client {
            host,
            stream: BufReader::with_capacity(1 << 18, stream),
        }
    }

    /// Posts a form and returns the body of a 200.
    pub(crate) fn ask(&mut self, path: &str, form: &str) -> Vec<u8> {
        let (status, body) = self.post(path, "Content-Type: application/x-www-form-urlencoded", form.as_bytes());
        assert!(
            status == 200,
            "{path} {form}: {status}: {}",
            String::from_utf8_lossy(&body)
        );
        body
    }

    /// Posts `body`; returns status and body of the answer.
    pub(crate) fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        self.stream.get_mut().write_all(&request).expect("the server reads");
        let status = self.line();
        let status = status
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status line");
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let mut body = Vec::new();
        if !chunked {
            self.take(length, &mut body);
            return (status, body);
        }
        loop {
            let length = usize::from_str_radix(self.line().trim(), 16).expect("the length of a chunk");
            self.take(length, &mut body);
            self.line();
            if length == 0 {
                return (status, body);
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).expect("the server answers");
        assert!(read > 0, "the server closed the connection");
        line.trim_end().to_owned()
    }

    fn take(&mut self, length: usize, body: &mut Vec<u8>) {
        let start = body.len();
        body.resize(start + length, 0);
        self.stream.read_exact(&mut body[start..]).expect("the server answers");
    }
}

/// Returns the CPU time of all threads of a process, in nanoseconds' resolution.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let of_task = |task: std::fs::DirEntry| {
        // A thread may end between the listing and the reading.
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    };
    tasks.flatten().filter_map(of_task).sum::<f64>() / 1e9
}

/// Says where two answers differ: in series, times, or values by more than a part in 1e9.
pub(crate) fn agree(ours: &[u8], theirs: &[u8]) -> Result<(), String> {
    let [ours, theirs] = [ours, theirs].map(points);
    for (side, a, b) in [("ours", &ours, &theirs), ("theirs", &theirs, &ours)] {
        if let Some(series) = a.keys().find(|series| !b.contains_key(*series)) {
            return Err(format!(
                "only in {side} ({} and {} series): {series}",
                ours.len(),
                theirs.len()
            ));
        }
    }
    for (series, points) in &ours {
        let others = &theirs[series];
        if points.len() != others.len() {
            return Err(format!("{series}: {} and {} points", points.len(), others.len()));
        }
        for ((at, value), (other_at, other)) in points.iter().zip(others) {
            let near = (value - other).abs() <= 1e-9 * value.abs().max(other.abs());
            if at != other_at || !(near || value == other || value.is_nan() && other.is_nan()) {
                return Err(format!("{series}: {value} at {at} and {other} at {other_at}"));
            }
        }
    }
    Ok(())
}

/// The points of an answer by series.
fn points(body: &[u8]) -> BTreeMap<String, Vec<(f64, f64)>> {
    let answer: Value = serde_json::from_slice(body).expect("JSON");
    let result = &answer["data"]["result"];
    let point = |pair: &Value| {
        let value = pair[1].as_str().expect("a value is a string");
        (pair[0].as_f64().expect("a time"), value.parse().expect("a number"))
    };
    if answer["data"]["resultType"] == "scalar" {
        return BTreeMap::from([(String::new(), vec![point(result)])]);
    }
    let series = result.as_array().expect("a list of series").iter().map(|series| {
        let metric = series["metric"].as_object().expect("a label set");
        let sorted: BTreeMap<&String, &Value> = metric.iter().collect();
        let points = match series.get("values") {
            Some(values) => values.as_array().expect("a list of points").iter().map(point).collect(),
            None => vec![point(&series["value"])],
        };
        (format!("{sorted:?}"), points)
    });
    series.collect()
}
