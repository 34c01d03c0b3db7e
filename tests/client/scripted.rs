//! A server on blocking sockets that follows a script, connection by connection.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// The timeout of reads and writes: longer than any test step takes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// An accepted connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    rest: Vec<u8>,
}

/// A received request.
#[derive(Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl ReceivedRequest {
    /// Returns the request line.
    pub(crate) fn line(&self) -> &str {
        self.head.split("\r\n").next().expect("a line")
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.head.split("\r\n").skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Peer {
    /// Reads into `rest`. Returns `false` at the end, or after the timeout.
    fn read(&mut self) -> bool {
        let mut block = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut block) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return false,
                Ok(n) => {
                    self.rest.extend_from_slice(&block[..n]);
                    return true;
                }
            }
        }
    }

    fn read_until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.rest.windows(end.len()).position(|part| part == end) {
                return Some(self.rest.drain(..at + end.len()).collect());
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// Reads `n` bytes, or fewer at the end.
    pub(crate) fn exactly(&mut self, n: usize) -> Vec<u8> {
        while self.rest.len() < n && self.read() {}
        let n = n.min(self.rest.len());
        self.rest.drain(..n).collect()
    }

    /// Receives the next request's head, if there is one.
    pub(crate) fn head(&mut self) -> Option<ReceivedRequest> {
        let head = self.read_until(b"\r\n\r\n")?;
        Some(ReceivedRequest { head: String::from_utf8(head).expect("text"), body: Vec::new() })
    }

    /// Receives the next request, if there is one.
    pub(crate) fn request(&mut self) -> Option<ReceivedRequest> {
        let mut received = self.head()?;
        if let Some(n) = received.get("content-length") {
            let n = n.parse().expect("a length");
            received.body = self.exactly(n);
        } else if received.get("transfer-encoding").is_some() {
            loop {
                let line = self.read_until(b"\r\n").expect("a size");
                let size = std::str::from_utf8(&line).expect("text").trim_end();
                let size = usize::from_str_radix(size, 16).expect("a size");
                received.body.extend(self.exactly(size));
                if size == 0 {
                    while self.read_until(b"\r\n").expect("a trailer") != b"\r\n" {}
                    break;
                }
                assert_eq!(self.exactly(2), b"\r\n");
            }
        }
        Some(received)
    }

    /// Receives a request and sends this response. Returns `false` if there is none.
    pub(crate) fn respond(&mut self, response: impl AsRef<[u8]>) -> bool {
        let has_request = self.request().is_some();
        if has_request {
            self.send(response);
        }
        has_request
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The client may have closed already; the test checks the client's side.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Returns `true` if the client ends the connection without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.rest.is_empty() && !self.read()
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("set");
    }

    pub(crate) fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// Returns a 200 with this body and its length.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A server in a thread that serves one connection after the other.
pub(crate) struct Scripted {
    pub(crate) addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    /// Serves `count` connections, one after the other, each by `script` with its number from 0.
    pub(crate) fn new(count: usize, mut script: impl FnMut(usize, Peer) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let (addr, accepted) = (listener.local_addr().expect("bound"), Arc::new(AtomicUsize::new(0)));
        let counter = accepted.clone();
        let thread = std::thread::spawn(move || {
            for n in 0..count {
                let (stream, _) = listener.accept().expect("a connection");
                counter.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(TIMEOUT)).expect("set");
                stream.set_write_timeout(Some(TIMEOUT)).expect("set");
                stream.set_nodelay(true).expect("set");
                script(n, Peer { stream, rest: Vec::new() });
            }
        });
        Self { addr, accepted, thread: Some(thread) }
    }

    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.addr)
    }

    /// Returns the number of accepted connections.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Waits for the end of the script, which must not have panicked. Returns the number of accepted connections.
    pub(crate) fn join(mut self) -> usize {
        let result = self.thread.take().expect("running").join();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        self.accepted()
    }
}
