//! Clients of others, where they are installed: curl, nghttp, h2load.

use std::{io::Write, process::Command};

use uncork::{Action, Request, Response};

use crate::{
    PLAIN, TLS,
    world::{Host, World, bytes, site::Collect},
};

/// Runs a program. Returns what it writes to both outputs, `None` if it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = match Command::new(program).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: {program}: {error}");
            return None;
        }
    };
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {:?} {error}", output.status);
    Some([output.stdout, output.stderr].concat())
}

fn serve(world: &World) -> (Host, String) {
    let host = world.serve(|req: &mut Request<'_>| match (req.method(), req.path()) {
        ("POST", _) => Action::Receive(Box::<Collect>::default()),
        (_, "/large") => Response::new(200).body(bytes(3_000_000)).into(),
        _ => Response::text(format!("{:?}\n", req.version())).into(),
    });
    let url = format!("{}://{}", if world.tls { "https" } else { "http" }, host.addr());
    (host, url)
}

/// Its TLS chooses by ALPN; without TLS it has prior knowledge.
#[test]
fn curl_speaks_http_2() {
    let Some(version) = run("curl", &["--version"]) else { return };
    if !String::from_utf8_lossy(&version).contains("HTTP2") {
        return println!("skipped: this curl has no HTTP/2");
    }
    for world in [PLAIN, TLS] {
        let (_host, url) = serve(&world);
        let how = if world.tls { "--http2" } else { "--http2-prior-knowledge" };
        let curl = |more: &[&str], path: &str| {
            run("curl", &[&["-sSk", "--max-time", "20", how], more, &[&format!("{url}{path}")]].concat()).expect("curl")
        };
        assert_eq!(curl(&[], "/"), b"Http2\n");
        assert_eq!(curl(&["-w", "%{http_version}"], "/"), b"Http2\n2");
        assert!(curl(&[], "/large") == bytes(3_000_000));
        let mut file = std::env::temp_dir();
        file.push(format!("uncork-curl-{}-{}", std::process::id(), world.tls));
        std::fs::File::create(&file).expect("made").write_all(&bytes(2_000_000)).expect("written");
        let data = format!("@{}", file.display());
        let echoed = curl(&["--data-binary", &data], "/");
        // With `Expect: 100-continue`.
        let expected = curl(&["-H", "Expect: 100-continue", "--data-binary", &data], "/");
        std::fs::remove_file(&file).expect("removed");
        assert!(echoed == bytes(2_000_000) && expected == echoed);
        // HTTP/1.1 on the same port.
        let old = run("curl", &["-sSk", "--http1.1", &format!("{url}/")]).expect("curl");
        assert_eq!(old, b"Http11\n");
    }
}

#[test]
fn nghttp_fetches() {
    for world in [PLAIN, TLS] {
        let (_host, url) = serve(&world);
        let Some(output) = run("nghttp", &["-v", "--no-verify-peer", &format!("{url}/")]) else { return };
        let text = String::from_utf8_lossy(&output);
        assert!(text.contains(":status: 200") && text.contains("END_STREAM"), "{text}");
        let Some(output) = run("nghttp", &["-ns", "--no-verify-peer", "-m", "20", &format!("{url}/large")]) else {
            return;
        };
        assert!(String::from_utf8_lossy(&output).contains("200"), "{}", String::from_utf8_lossy(&output));
    }
}

#[test]
fn h2load_loads() {
    for world in [PLAIN, TLS] {
        let (_host, url) = serve(&world);
        let url = format!("{url}/");
        let Some(output) = run("h2load", &["-n", "4000", "-c", "8", "-m", "16", &url]) else { return };
        let text = String::from_utf8_lossy(&output);
        assert!(text.contains("4000 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
    }
}
