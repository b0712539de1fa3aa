//! A webhook receiver: keeps what it got, answers what it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// One request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    /// Header names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Hook {
    /// Returns the notification's status: `firing` or `resolved`.
    pub(crate) fn status(&self) -> &str {
        self.body["status"].as_str().unwrap_or("")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Listens on loopback until the test process ends.
#[derive(Clone)]
pub(crate) struct WebhookServer {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    hooks: Vec<Hook>,
    answers: Vec<u16>,
    hold: bool,
}

impl WebhookServer {
    pub(crate) fn start() -> WebhookServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let server = WebhookServer {
            port,
            state: Arc::new(Mutex::new(State {
                hooks: Vec::new(),
                answers: Vec::new(),
                hold: false,
            })),
        };
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || own.answer(stream));
            }
        });
        server
    }

    /// Answers the next requests with these status codes, then 200 again.
    pub(crate) fn answer_next(&self, statuses: &[u16]) {
        self.state.lock().unwrap().answers = statuses.to_vec();
    }

    /// Takes the next request, and never answers it.
    pub(crate) fn hold_next(&self) {
        self.state.lock().unwrap().hold = true;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// Returns what was taken with 200 so far.
    pub(crate) fn hooks(&self) -> Vec<Hook> {
        self.state.lock().unwrap().hooks.clone()
    }

    fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let mut headers = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let Some((name, value)) = line.trim_end().split_once(':') else {
                    break;
                };
                headers.push((name.to_lowercase(), value.trim().to_owned()));
            }
            let length = headers
                .iter()
                .find(|(name, _)| name == "content-length")?
                .1
                .parse()
                .ok()?;
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let (status, hold) = {
                let mut state = self.state.lock().unwrap();
                let status = if state.answers.is_empty() {
                    200
                } else {
                    state.answers.remove(0)
                };
                if status == 200 {
                    state.hooks.push(Hook {
                        headers,
                        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
                    });
                }
                (status, std::mem::take(&mut state.hold))
            };
            if hold {
                // Until the sender goes away.
                let _ = reader.read(&mut [0]);
                return None;
            }
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).ok()?;
        }
    }
}
