//! Basic and digest authentication over real sockets: by curl, as others write their clients, and by hand.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use uncork::{
    Request, Response, Running, Server,
    auth::{Account, Algorithm, Basic, Digest, DigestError, Qops, Username},
};

/// Each response must arrive within this time.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A name and a password with everything that an encoding may break.
const NAME: &str = "J\u{e4}s\u{f8}n \"Doe\"";
const PASSWORD: &str = "Secret, or: not?\\";

fn serve(handler: impl Fn(&mut Request<'_>) -> Response + Clone + Send + 'static) -> (Running, SocketAddr) {
    let running = Server::bind("127.0.0.1:0").expect("bound").threads(2, handler).expect("running");
    let addr = running.local_addr().expect("an address");
    (running, addr)
}

/// Runs curl, and returns its output and the statuses of the responses; `None` if there is no curl.
fn curl(args: &[&str], urls: &[String]) -> Option<(String, Vec<String>)> {
    let mut command = Command::new("curl");
    command.args(["-s", "-i", "--max-time", "20", "--noproxy", "*"]).args(args).args(urls).stdin(Stdio::null());
    let Ok(output) = command.output() else {
        println!("skipped: there is no curl");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let statuses = text.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")).map(|line| line[..3].to_owned());
    let statuses = statuses.collect();
    Some((text, statuses))
}

#[test]
fn curl_authenticates_by_basic() {
    let basic = Basic::new("vault");
    let (_running, addr) = serve(move |req: &mut Request<'_>| match basic.credentials(req) {
        Some(found) if found.is(NAME, PASSWORD) => Response::text(found.name_str().unwrap_or_default().to_owned()),
        _ => basic.response(),
    });
    let url = [format!("http://{addr}/a")];
    let Some((text, statuses)) = curl(&["--basic", "-u", &format!("{NAME}:{PASSWORD}")], &url) else { return };
    assert!(statuses == ["200"] && text.ends_with(NAME), "{text}");
    let Some((text, statuses)) = curl(&["--basic", "-u", &format!("{NAME}:x")], &url) else { return };
    assert!(
        statuses == ["401"] && text.contains("WWW-Authenticate: Basic realm=\"vault\", charset=\"UTF-8\""),
        "{text}"
    );
}

/// A server that accepts one user.
fn digest_server(digest: Digest) -> (Running, SocketAddr) {
    serve(move |req: &mut Request<'_>| {
        let account = digest.authenticate(req, |credentials| {
            (credentials.user()? == NAME).then(|| Account::with_password(NAME, PASSWORD))
        });
        match account {
            Ok(account) => Response::text(format!("{account}\n")),
            Err(error) => digest.response(req, error).body(format!("{error:?}\n")),
        }
    })
}

#[test]
fn curl_authenticates_by_digest() {
    // Not SHA-512-256: curl 7.88 takes SHA-256 for it.
    let sets: [&[Algorithm]; 3] = [&[Algorithm::Sha256, Algorithm::Md5], &[Algorithm::Md5], &[Algorithm::Sha256]];
    for algorithms in sets {
        let (_running, addr) =
            digest_server(Digest::new("a \"realm\"").unwrap().algorithms(algorithms.iter().copied()));
        let user = format!("{NAME}:{PASSWORD}");
        let urls = [format!("http://{addr}/a?b=c%20d"), format!("http://{addr}/%C3%A4"), format!("http://{addr}")];
        let Some((text, statuses)) = curl(&["--digest", "-u", &user], &urls) else { return };
        assert!(statuses == ["401", "200"].repeat(3) && text.ends_with(&format!("{NAME}\n")), "{algorithms:?}: {text}");
        for (user, reason) in [(format!("{NAME}:x"), "ResponseWrong\n"), (format!("other:{PASSWORD}"), "WrongUser\n")] {
            let Some((text, statuses)) = curl(&["--digest", "-u", &user], &urls[..1]) else { return };
            assert!(statuses == ["401", "401"] && text.ends_with(reason), "{algorithms:?}: {text}");
            assert!(!text.contains("stale"), "{text}");
        }
    }
}

#[test]
fn curl_sends_the_hash_of_its_user() {
    let digest = Digest::new("vault").unwrap().algorithms([Algorithm::Sha256]).userhash(true);
    let hash = Algorithm::Sha256.user_hash(NAME, "vault").hex();
    let (_running, addr) = serve(move |req: &mut Request<'_>| {
        let account = digest.authenticate(req, |credentials| match credentials.username() {
            Username::Hash(hex) if hex == hash.as_bytes() => Some(Account::with_password(NAME, PASSWORD)),
            _ => None,
        });
        match account {
            Ok(account) => Response::text(format!("{account}\n")),
            Err(error) => digest.response(req, error).body(format!("{error:?}\n")),
        }
    });
    let urls = [format!("http://{addr}/")];
    let Some((text, statuses)) = curl(&["--digest", "-u", &format!("{NAME}:{PASSWORD}")], &urls) else { return };
    assert!(statuses == ["401", "200"] && text.ends_with(&format!("{NAME}\n")), "{text}");
}

#[test]
fn curl_tries_again_when_its_nonce_is_stale() {
    let digest = Digest::new("vault").unwrap();
    let rejected = Arc::new(AtomicBool::new(false));
    let (_running, addr) = serve(move |req: &mut Request<'_>| {
        let account = digest.authenticate(req, |_| Some(Account::with_password(NAME, PASSWORD)));
        match account {
            Ok(_) if !rejected.swap(true, Ordering::Relaxed) => digest.response(req, DigestError::NonceStale),
            Ok(account) => Response::text(format!("{account}\n")),
            Err(error) => digest.response(req, error),
        }
    });
    let urls = [format!("http://{addr}/")];
    let Some((text, statuses)) = curl(&["--digest", "-u", &format!("{NAME}:{PASSWORD}")], &urls) else { return };
    assert_eq!(statuses, ["401", "401", "200"], "{text}");
    assert_eq!(text.matches("stale=true").count(), 2, "in both challenges of one response: {text}");
}

#[test]
fn curl_authenticates_as_in_rfc_2069() {
    let (_running, addr) = digest_server(Digest::new("vault").unwrap().algorithms([Algorithm::Md5]).qops(Qops::None));
    let urls: Vec<String> = (0..2).map(|n| format!("http://{addr}/{n}")).collect();
    let Some((text, statuses)) = curl(&["--digest", "-u", &format!("{NAME}:{PASSWORD}")], &urls) else { return };
    assert_eq!(statuses, ["401", "200", "401", "200"], "a nonce for each request: {text}");
}

#[test]
fn curl_sends_a_body_again_with_its_credentials() {
    let (_running, addr) = digest_server(Digest::new("vault").unwrap());
    let urls = [format!("http://{addr}/")];
    let body = "x".repeat(100_000);
    let user = format!("{NAME}:{PASSWORD}");
    let Some((text, statuses)) = curl(&["--digest", "-u", &user, "--data", &body, "-H", "Expect:"], &urls) else {
        return;
    };
    assert_eq!(statuses, ["401", "200"], "{text}");
}

/// Sends a request with these fields, and returns the response.
fn exchange(addr: SocketAddr, fields: &str) -> String {
    let mut client = TcpStream::connect(addr).expect("connected");
    client.set_read_timeout(Some(TIMEOUT)).expect("set");
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
    client.write_all(request.as_bytes()).expect("written");
    let mut response = String::new();
    client.read_to_string(&mut response).expect("a response");
    response
}

#[test]
fn several_fields_or_none_are_not_accepted() {
    let (_running, addr) = digest_server(Digest::new("vault").unwrap());
    let rows = [
        ("", DigestError::NoCredentials),
        ("Authorization: Basic QTpC\r\n", DigestError::NoCredentials),
        ("Authorization: Digest username=a\r\nAuthorization: Digest username=a\r\n", DigestError::Malformed),
        ("Authorization: Digest\r\n", DigestError::Malformed),
    ];
    for (fields, reason) in rows {
        let response = exchange(addr, fields);
        assert!(response.starts_with("HTTP/1.1 401 ") && response.ends_with(&format!("{reason:?}\n")), "{response}");
        assert_eq!(response.matches("WWW-Authenticate: Digest realm=\"vault\"").count(), 2, "{response}");
    }
    let basic = Basic::new("a\r\nb");
    let (_running, addr) = serve(move |_: &mut Request<'_>| basic.response());
    assert!(exchange(addr, "").starts_with("HTTP/1.1 500 "), "a realm with a line break is a mistake");
}
