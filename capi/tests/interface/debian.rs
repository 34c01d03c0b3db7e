//! Programs of Debian, unmodified, on this library.

#![expect(clippy::disallowed_methods, reason = "the tests wait for programs")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::support::{Library, has};

/// An address of its own: on the usual one, another test could take the port that was found to be free.
const HOST: &str = "127.0.0.88";
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the response to a GET; `None` if the program does not respond.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((HOST, port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    Some(response)
}

/// collectd's plugin for Prometheus: a daemon with a thread, on a socket that the plugin has bound.
#[test]
fn collectd_serves_metrics() {
    let plugins = Path::new("/usr/lib/collectd");
    let has_protobuf = crate::support::has_library("libprotobuf-c.so.1");
    if !has("collectd") || !plugins.join("write_prometheus.so").exists() || !has_protobuf {
        return println!("skipped: collectd-core and libprotobuf-c1 are not installed");
    }
    let dir = Library::get().dir().join("collectd");
    fs::create_dir_all(&dir).expect("a directory");
    let port = TcpListener::bind((HOST, 0)).and_then(|socket| socket.local_addr()).expect("a free port").port();
    let config = format!(
        "BaseDir {dir:?}\nPIDFile {:?}\nPluginDir {plugins:?}\nTypesDB \"/usr/share/collectd/types.db\"\nInterval 1\n\
         LoadPlugin load\nLoadPlugin write_prometheus\n\
         <Plugin write_prometheus>\n  Host \"{HOST}\"\n  Port \"{port}\"\n</Plugin>\n",
        dir.join("pid"),
    );
    let file = dir.join("collectd.conf");
    fs::write(&file, config).expect("a configuration");
    let mut child = Library::get().command("collectd").arg("-f").arg("-C").arg(&file).spawn().expect("started");
    let begin = Instant::now();
    let metrics = loop {
        let response = get(port, "/metrics").filter(|response| response.contains("\ncollectd_load_shortterm"));
        if response.is_some() || begin.elapsed() > PATIENCE {
            break response;
        }
        sleep(Duration::from_millis(100));
    };
    let pid = i32::try_from(child.id()).expect("a process id");
    // SAFETY: It signals a process that this test has started and not waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    assert!(child.wait().expect("ended").success());
    let metrics = metrics.expect("it serves its metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("\r\nContent-Type: text/plain; version=0.0.4\r\n"), "{metrics}");
}

/// motion's control page, behind basic and digest authentication; curl is the client.
#[test]
fn motion_asks_for_a_password() {
    if !has("motion") || !has("curl") {
        return println!("skipped: motion and curl are not installed");
    }
    let dir = Library::get().dir().join("motion");
    fs::create_dir_all(&dir).expect("a directory");
    for (method, flag) in [(1, "--basic"), (2, "--digest")] {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        // Its camera does not exist.
        let config = format!(
            "daemon off\nlog_level 4\ntarget_dir {}\nnetcam_url http://127.0.0.1:9/none\nwidth 320\nheight 240\n\
             webcontrol_port {port}\nwebcontrol_localhost on\nwebcontrol_auth_method {method}\n\
             webcontrol_authentication alice:open sesame\nstream_port 0\n",
            dir.display()
        );
        let file = dir.join(format!("{method}.conf"));
        fs::write(&file, config).expect("a configuration");
        let mut child = Library::get().command("motion").arg("-n").arg("-c").arg(&file).spawn().expect("started");
        let begin = Instant::now();
        while get(port, "/").is_none() && begin.elapsed() < PATIENCE {
            sleep(Duration::from_millis(100));
        }
        // The statuses of all responses.
        let ask = |user: &str| -> Vec<String> {
            let mut curl = Command::new("curl");
            curl.args(["-s", "-i", "--max-time", "30", "--noproxy", "*", flag, "-u", user]);
            let output = curl.arg(format!("http://127.0.0.1:{port}/0/detection/status")).output().expect("curl");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")).map(|line| line[..3].to_owned()).collect()
        };
        let (right, wrong) = (ask("alice:open sesame"), ask("alice:x"));
        let pid = i32::try_from(child.id()).expect("a process id");
        // SAFETY: It signals a process that this test has started and not waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        let _ = child.wait().expect("ended");
        let digest_first: &[&str] = if method == 2 { &["401"] } else { &[] };
        assert_eq!(right, [digest_first, &["200"]].concat(), "{flag}");
        assert_eq!(wrong, [digest_first, &["401"]].concat(), "{flag}");
    }
}
