//! An engine that runs during a test: a `redis-server` without persistence, on a free port.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// Returns ports that nothing listens on. They are below those that the system gives out (32,768 and above on Linux), so
/// that no other socket takes one before the program listens.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    /// The first one, and how many.
    const RANGE: (u16, u32) = (12_000, 20_000);
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests that run at the same time begin at different ones.
    let first = std::process::id().wrapping_mul(97);
    let next = || RANGE.0 + (first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % RANGE.1) as u16;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    [(); N].map(|()| std::iter::repeat_with(next).take(1000).find(is_free).expect("a free port"))
}

pub(crate) struct Redis {
    child: Option<Child>,
    port: u16,
    arguments: Vec<String>,
}

impl Redis {
    /// Starts it; `None` if it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let [port] = free_ports();
        Self::start_on(port)
    }

    /// Like [`start`](Self::start), but on this port.
    pub(crate) fn start_on(port: u16) -> Option<Self> {
        Self::start_with(port, Vec::new())
    }

    /// Like [`start_on`](Self::start_on), with these arguments besides.
    pub(crate) fn start_with(port: u16, arguments: Vec<String>) -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if version.is_err() {
            return None;
        }
        let mut redis = Self { child: None, port, arguments };
        redis.restart();
        Some(redis)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts it on the same port, without any data.
    pub(crate) fn restart(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(&self.arguments);
        let child = command.current_dir(std::env::temp_dir()).stdout(Stdio::null()).spawn().expect("started");
        self.child = Some(child);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns its process.
    #[allow(dead_code, reason = "each test uses a part of it")]
    pub(crate) fn process(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().and_then(|()| child.wait()).expect("ended");
        }
    }

    /// Sends a command. Returns a number or a text.
    pub(crate) fn cli(&self, words: &[&str]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut command = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| command.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        stream.write_all(command.as_bytes()).expect("sent");
        let (mut reader, mut line) = (BufReader::new(stream), String::new());
        reader.read_line(&mut line).expect("a reply");
        let reply = line.trim_end().to_owned();
        match reply.split_at(1) {
            ("$", length) => {
                let mut text = vec![0; length.parse().unwrap_or(0)];
                reader.read_exact(&mut text).expect("a text");
                String::from_utf8(text).expect("UTF-8")
            }
            (_, rest) => rest.to_owned(),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
