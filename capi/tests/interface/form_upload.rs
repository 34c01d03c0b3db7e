//! The example `form_upload.c`, as a client sees it.

#![expect(clippy::disallowed_methods, reason = "the test waits for a program")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use crate::support::Library;

struct Upload {
    child: Child,
    address: String,
    dir: PathBuf,
}

impl Upload {
    fn start() -> Self {
        let program = Library::get().compile("examples/form_upload.c");
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("form-upload-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let mut command = Library::get().command(&program);
        let mut child = command.arg("127.0.0.1:0").arg(&dir).stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim().trim_start_matches("listening on http://").trim_end_matches('/').to_owned();
        Self { child, address, dir }
    }

    fn connect(&self, request: &[&[u8]]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        for part in request {
            stream.write_all(part).expect("sent");
        }
        stream
    }

    /// Sends a form, and returns the response.
    fn post(&self, content_type: &str, body: &[u8]) -> String {
        let length = body.len();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        response(self.connect(&[head.as_bytes(), body]))
    }

    /// Ends it. If it has ended already, its id is still its own until it is waited for.
    fn terminate(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = i32::try_from(self.child.id()).expect("a process id");
            // SAFETY: It signals a process that this test has started and not waited for: `timeout`, which passes the
            // signal on.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
    }

    /// Returns the names of the stored files.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).expect("a directory");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<String> = entries.map(|entry| name(entry).into_string().expect("text")).collect();
        names.sort();
        names
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.terminate();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn response(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("received");
    text
}

/// Returns a part with a file.
fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
    [head.as_bytes(), content, b"\r\n"].concat()
}

#[test]
fn a_form_is_stored() {
    let mut upload = Upload::start();
    let multipart = "multipart/form-data; boundary=b";
    let page = response(upload.connect(&[b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]));
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("enctype=\"multipart/form-data\""), "{page}");

    let large: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let title = b"--b\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nHello\r\n";
    let form = [&title[..], &file("large.bin", &large), &file("empty", b""), &file("", b""), b"--b--\r\n"].concat();
    let stored = upload.post(multipart, &form);
    assert!(stored.starts_with("HTTP/1.1 201 ") && stored.ends_with("stored 2 files\n"), "{stored}");
    assert_eq!(upload.names(), ["empty", "large.bin"]);
    assert!(fs::read(upload.dir.join("large.bin")).expect("a file") == large);

    for (content_type, body, status) in [
        ("text/plain", b"a=1".to_vec(), "415"),
        ("application/x-www-form-urlencoded", b"a=1".to_vec(), "201"),
        (multipart, [&file("../up", b"x")[..], b"--b--"].concat(), "400"),
        (multipart, [&file(".hidden", b"x")[..], b"--b--"].concat(), "400"),
        (multipart, [&file("large.bin", b"x")[..], b"--b--"].concat(), "409"),
        (multipart, file("unfinished", b"x")[..70].to_vec(), "400"),
        (multipart, [&file("malformed", b"x")[..], b"--bc"].concat(), "400"),
    ] {
        let text = upload.post(content_type, &body);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    }
    // A client that disconnects in the middle of a file leaves none.
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {multipart}\r\nContent-Length: 1000000\r\n\r\n");
    let cut = upload.connect(&[head.as_bytes(), &file("cut", &large[..100_000])]);
    let _ = cut.shutdown(Shutdown::Both);
    drop(cut);
    let is_clean = || upload.names() == ["empty", "large.bin"];
    for _ in 0..2000 {
        if is_clean() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert!(is_clean(), "{:?}", upload.names());

    upload.terminate();
    assert!(upload.child.wait().expect("ended").success());
}
