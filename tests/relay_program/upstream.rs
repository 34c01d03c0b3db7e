//! The gateway's upstream in the relay: the application gets what no other service has, plain and over HTTPS.

use std::process::Command;

use uncork::{Action, Consumed, Listen, Request, Response, Server, Tls, Upload, h1::Headers};

use crate::{
    client::Client,
    harness::{Dir, Relay},
    program::{output, program},
};

/// Responds with what it has received.
struct Echo(Vec<u8>);

impl Upload for Echo {
    fn data(&mut self, chunk: &[u8]) -> Consumed {
        self.0.extend_from_slice(chunk);
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        Response::new(200).header("Content-Type", "application/octet-stream").body(self.0).into()
    }
}

fn application(req: &mut Request<'_>) -> Action {
    let field = |name: &str| req.header_str(name).unwrap_or("none").to_owned();
    match req.has_body() {
        true => Action::Receive(Box::new(Echo(Vec::new()))),
        false => {
            let (client, proto, session) =
                (field("x-forwarded-for"), field("x-forwarded-proto"), field("x-kuiperbelt-session"));
            let (method, target, host) = (req.method(), req.target(), field("host"));
            Response::text(format!("{method} {target} of {host} for {client} by {proto}, session {session}")).into()
        }
    }
}

#[test]
fn the_application_gets_what_no_service_has() {
    for tls in [false, true] {
        let dir = Dir::new();
        dir.identity();
        let mut listen = Listen::tcp("127.0.0.1:0").expect("bound");
        if tls {
            listen = listen.tls(Tls::pem(dir.path("cert.pem"), dir.path("key.pem")).expect("a certificate"));
        }
        let application = Server::new().listen(listen).threads(1, application).expect("running");
        let port = application.local_addr().expect("bound").port();
        let upstream = format!("{}://localhost:{port}", if tls { "https" } else { "http" });
        let mut command = Command::new(program("relay"));
        command.env("SSL_CERT_FILE", dir.path("cert.pem"));
        let flags = [
            "--listen=127.0.0.1:0".to_owned(),
            "--gateway-connect-url=http://127.0.0.1:1/connect".to_owned(),
            format!("--gateway-upstream={upstream}"),
            "--trusted-proxy=127.0.0.1".to_owned(),
        ];
        let relay = Relay::start_with(command, &flags.each_ref().map(String::as_str));
        let get = |line: &str, fields: &[&str]| relay.request(line, fields).assert(200).text().to_owned();
        let want = |line: &str, client: &str, proto: &str| {
            format!("{line} of localhost for {client} by {proto}, session none")
        };
        assert_eq!(get("GET /some/page?x", &[]), want("GET /some/page?x", "127.0.0.1", "http"));
        let fields = ["X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Kuiperbelt-Session: ann"];
        assert!(!get("GET /", &fields).contains("192.0.2.7"), "the page of the relay");
        assert_eq!(get("DELETE /send", &fields), want("DELETE /send", "192.0.2.7", "https"));
        let body: Vec<u8> = (0..1_000_000_u32).map(|n| (n / 5) as u8).collect();
        let mut client = relay.client();
        for _ in 0..2 {
            assert!(client.post("/upload", &[], &body).response().assert(200).body == body);
        }
        // The relay's own paths, and the gateway's for its application.
        relay.client().post("/stream", &[], b"").response().assert(201);
        relay.request("GET /connect", &[]).assert(400);
        Client::connect(relay.admin, None).post("/send", &["X-Kuiperbelt-Session: x"], b"").response().assert(200);
        relay.request_admin("GET /some/page", &[]).assert(404);
        application.stop_now().expect("stopped");
        relay.request("GET /some/page", &[]).assert(502);
        assert_eq!(relay.metric("uncork_gateway_upstream_requests_total"), 5.0);
        assert_eq!(relay.metric("uncork_gateway_upstream_errors_total"), 1.0);
        relay.stop();
    }
}

#[test]
fn mistakes_in_the_upstream_are_named() {
    let gateway = "--gateway-connect-url=http://127.0.0.1:1/";
    for (args, words) in [
        (&["--check-config", gateway, "--gateway-upstream=http://a/b"][..], "upstream.url"),
        (&["--check-config", "--gateway-upstream=http://a:1"], "connect-url"),
        (&["--check-config", gateway, "--gateway-upstream=a:1"], "gateway-upstream"),
    ] {
        let output = output("relay", args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(words), "{args:?}: {text}");
    }
}
