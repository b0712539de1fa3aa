//! A Campanile process under test: its folder, its configuration, its life and death.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Client, get};

/// A server with its own data directory, killed when dropped.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    arguments: Vec<String>,
}

impl Server {
    /// Prepares a server that is not started yet.
    pub(crate) fn new() -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Server {
            folder,
            port: free_port(),
            child: None,
            arguments: Vec::new(),
        }
    }

    /// Writes a file into the server's folder and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder for it");
        std::fs::write(&path, text).expect("a file in the temporary folder");
        path
    }

    /// Adds an argument for the next start.
    pub(crate) fn arg(&mut self, argument: impl Into<String>) -> &mut Server {
        self.arguments.push(argument.into());
        self
    }

    /// Starts the server with the `campanile.yaml` in its folder, if there is one, and waits until it is ready.
    pub(crate) fn start(&mut self) -> &mut Server {
        self.launch();
        self.wait_until_ready()
    }

    /// Starts the server and waits for nothing.
    pub(crate) fn launch(&mut self) {
        let config = self.folder.path().join("campanile.yaml");
        let mut command = self.command();
        command
            .arg("serve")
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", self.port));
        command.arg("--data-dir").arg(self.data_dir());
        if config.exists() {
            command.arg("--config").arg(config);
        }
        command.args(&self.arguments);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log file");
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("the binary starts"));
    }

    fn wait_until_ready(&mut self) -> &mut Server {
        let ready = format!("{}/-/ready", self.url());
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if get(&ready).is_ok_and(|answer| answer.status == 200) {
                return self;
            }
            let child = self.child.as_mut().expect("it was just started");
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "the server was not ready in 60 s:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the process as a power cut would end it for the process: SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the child can be killed");
            child.wait().expect("the child can be awaited");
        }
    }

    /// Ends the process as an operator would (SIGTERM) and returns its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("the server runs");
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success());
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "SIGTERM did not end the server in 30 s:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs another subcommand of the binary to its end: exit code, standard output and standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command().args(arguments).output().expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_campanile"));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Returns a client that speaks to this server.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.url())
    }

    /// Returns the server's base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the server's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the server's data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns what the server printed so far, over all its starts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a loopback port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// Asks `question` until it has an answer; fails with `what` after `seconds`.
pub(crate) fn eventually<T>(what: &str, seconds: u64, mut question: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
