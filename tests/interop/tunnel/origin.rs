//! The tunnel forwards requests and responses unchanged: heads, bodies, ends, upgrades.

use std::{sync::Arc, time::Duration};

use uncork::{Action, Produced, Request, Response, Switch, Ticket, Tx, h1::Headers};

use super::{
    client::Client,
    origin_server::{INNER, MODES, Mode, OriginServer, all, tunnel},
    site::{Collect, aborted, bytes, echo, endless, with_trailers},
    world::World,
};

/// Responds by path.
pub(crate) fn site(req: &mut Request<'_>) -> Action {
    match req.path() {
        "/who" => Response::text(format!("{:?} {:?}", req.peer().ip(), req.authority())).into(),
        "/fields" => {
            let fields: Vec<String> = req
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)))
                .collect();
            Response::text(fields.concat()).into()
        }
        "/big" => {
            let body: Arc<[u8]> = bytes(3_000_000).into();
            Response::new(200).body(body).into()
        }
        "/stream" => with_trailers(700_000).into(),
        "/endless" => endless().into(),
        "/broken" => aborted().into(),
        "/hints" => {
            let ticket = req.ticket();
            let mut hints = Headers::new();
            hints.append("Link", "</a.css>; rel=preload").expect("valid");
            ticket.send_informational(103, hints);
            ticket.respond(Response::text("hinted")).expect("a suspended request");
            Action::Suspend
        }
        "/304" => Response::new(304).header("ETag", "\"a\"").into(),
        "/204" => Response::new(204).into(),
        "/panic" => panic!("on purpose"),
        "/up" if req.wants_upgrade("test") => Switch::to("test", echo).into(),
        "/up" => Response::new(426).header("Upgrade", "test").into(),
        "/echo" => Action::Receive(Box::<Collect>::default()),
        path => Response::text(format!("{} {path}", req.method())).into(),
    }
}

const HOST: &str = "Host: app.example";

fn get(client: &mut Client, path: &str) -> super::client::TestResponse {
    client.send(format!("GET {path} HTTP/1.1\r\n{HOST}\r\n\r\n")).response()
}

#[test]
fn responses_are_those_of_the_handler() {
    for (mode, inner) in all() {
        let world = World::new();
        let _origin_server = OriginServer::new(inner(tunnel(world.origins)), mode, site).wait_connected(&world);
        let mut client = world.client();
        for n in 0..20 {
            assert_eq!(get(&mut client, &format!("/{n}")).assert(200).text(), format!("GET /{n}"));
        }
        assert_eq!(get(&mut client, "/who").text(), "Some(127.0.0.1) Some(\"app.example\")");
        assert!(get(&mut client, "/big").body == bytes(3_000_000));
        let head = client.send(format!("GET /stream HTTP/1.1\r\n{HOST}\r\n\r\n")).head();
        assert!(head.assert(200).is_chunked());
        let mut got = Vec::new();
        while got.len() < 700_000 {
            got.extend(client.next_chunk().expect("a chunk").expect("not the last"));
        }
        assert!(got == bytes(700_000));
        // A tunnel of HTTP/1.1 keeps the case of names.
        let end: Vec<String> = (0..3).map(|_| client.line().expect("a line").to_ascii_lowercase()).collect();
        assert_eq!(end, ["0", "x-sum: 7", ""]);
        assert_eq!(get(&mut client, "/304").assert(304).get("etag"), Some("\"a\""));
        get(&mut client, "/204").assert(204);
        get(&mut client, "/panic").assert(500);
        let head = client.send(format!("HEAD /big HTTP/1.1\r\n{HOST}\r\n\r\n")).head();
        assert_eq!(head.assert(200).get("content-length"), Some("3000000"));
        assert_eq!(get(&mut client, "/fine").assert(200).text(), "GET /fine");
    }
}

#[test]
fn end_to_end_fields_are_forwarded_and_those_of_one_hop_are_not() {
    for inner in INNER {
        let world = World::new();
        let _origin_server =
            OriginServer::new(inner(tunnel(world.origins)), Mode::Threads, site).wait_connected(&world);
        let mut client = world.client();
        let fields =
            "Cookie: a=1; b=2\r\nX-One: 1\r\nX-One: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Forwarded-For: 6.6.6.6";
        let response = client.send(format!("GET /fields HTTP/1.1\r\n{HOST}\r\n{fields}\r\n\r\n")).response();
        let text = response.assert(200).text();
        for line in
            ["cookie: a=1; b=2\n", "x-one: 1\n", "x-one: 2\n", "x-forwarded-for: 127.0.0.1\n", "Host: app.example\n"]
        {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        for line in ["x-hop", "6.6.6.6"] {
            assert!(!text.contains(line), "{line:?} in {text}");
        }
    }
}

#[test]
fn request_bodies_are_forwarded_completely() {
    for (mode, inner) in all() {
        let world = World::new();
        let _origin_server = OriginServer::new(inner(tunnel(world.origins)), mode, site).wait_connected(&world);
        let mut client = world.client();
        for size in [0, 1, 70_000, 2_000_000] {
            let body = bytes(size);
            client.send(format!("POST /echo HTTP/1.1\r\n{HOST}\r\nContent-Length: {size}\r\n\r\n")).send(&body);
            assert!(client.response().assert(200).body == body, "{size}");
        }
        client.send(format!("POST /echo HTTP/1.1\r\n{HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"));
        let body = bytes(300_000);
        for chunk in body.chunks(7777) {
            client.chunk(chunk);
        }
        let response = client.send("0\r\nX-Sum: 9\r\n\r\n").response();
        assert!(response.assert(200).body == body);
        assert_eq!(response.get("x-sum"), Some("9"), "trailers are forwarded");
    }
}

#[test]
fn hints_come_before_the_response() {
    for inner in INNER {
        let world = World::new();
        let _origin_server =
            OriginServer::new(inner(tunnel(world.origins)), Mode::Threads, site).wait_connected(&world);
        let mut client = world.client();
        let hints = client.send(format!("GET /hints HTTP/1.1\r\n{HOST}\r\n\r\n")).head();
        assert_eq!(hints.assert(103).get("link"), Some("</a.css>; rel=preload"));
        assert_eq!(client.response().assert(200).text(), "hinted");
    }
}

#[test]
fn a_truncated_response_is_never_taken_for_a_complete_one() {
    for inner in INNER {
        let world = World::new();
        let _origin_server =
            OriginServer::new(inner(tunnel(world.origins)), Mode::Threads, site).wait_connected(&world);
        let mut client = world.client();
        let head = client.send(format!("GET /broken HTTP/1.1\r\n{HOST}\r\n\r\n")).head();
        // The reset may discard the head, too.
        if head.status == 200 {
            client.body(&head).expect_err("truncated");
        } else {
            head.assert(502);
        }
        assert_eq!(get(&mut world.client(), "/fine").assert(200).text(), "GET /fine");
    }
}

#[test]
fn other_protocols_are_forwarded() {
    for (mode, inner) in all() {
        let world = World::new();
        let _origin_server = OriginServer::new(inner(tunnel(world.origins)), mode, site).wait_connected(&world);
        let mut client = world.client();
        let upgrade = format!("GET /up HTTP/1.1\r\n{HOST}\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n");
        client.send(&upgrade).head().assert(101);
        let data = bytes(500_000);
        for piece in data.chunks(50_000) {
            assert!(client.send(piece).exactly(piece.len()).expect("an echo") == piece);
        }
        client.finish();
        assert!(client.read_to_end().expect("a normal end").is_empty());
        // A rejected upgrade is forwarded, and data for the other protocol is discarded.
        let mut client = world.client();
        let other = upgrade.replace("Upgrade: test", "Upgrade: other");
        client.send(format!("{other}GET /smuggled HTTP/1.1\r\n{HOST}\r\n\r\n")).head().assert(426);
    }
}

#[test]
fn a_client_that_leaves_ends_its_request_and_no_other() {
    for inner in INNER {
        let world = World::new();
        let (sender, requests) = std::sync::mpsc::channel::<(Ticket, std::sync::mpsc::Receiver<uncork::EndReason>)>();
        let handler = move |req: &mut Request<'_>| -> Action {
            if !["/wait", "/pause"].contains(&req.path()) {
                return site(req);
            }
            let (end, ended) = std::sync::mpsc::channel();
            req.on_end(move |request| {
                let _ = end.send(request.reason);
            });
            sender.send((req.ticket(), ended)).expect("a receiver");
            if req.path() == "/pause" {
                let mut part = &b"part"[..];
                return Response::stream(move |out: &mut Tx<'_>| {
                    let n = out.write(part);
                    part = &part[n..];
                    Produced::Pending
                })
                .into();
            }
            Action::Suspend
        };
        let _origin_server = OriginServer::new(inner(tunnel(world.origins)).connections(8), Mode::Threads, handler);
        world.wait_until("all are connected", |counts| counts.connections == 8);
        let timeout = Duration::from_secs(8);
        let mut client = world.client();
        client.send(format!("GET /wait HTTP/1.1\r\n{HOST}\r\n\r\n"));
        let (ticket, ended) = requests.recv_timeout(timeout).expect("a request");
        client.leave();
        assert_eq!(ended.recv_timeout(timeout), Ok(uncork::EndReason::PeerClosed));
        assert!(ticket.respond(Response::new(200)).is_err());
        // While the response pauses.
        for mut client in [world.client(), world.secure_client()] {
            client.send(format!("GET /pause HTTP/1.1\r\n{HOST}\r\n\r\n")).head().assert(200);
            let (_, ended) = requests.recv_timeout(timeout).expect("a request");
            assert_eq!(client.next_chunk().expect("a chunk").expect("not the last"), b"part");
            client.leave();
            assert_eq!(ended.recv_timeout(timeout), Ok(uncork::EndReason::PeerClosed));
        }
        let mut client = world.client();
        client.send(format!("GET /endless HTTP/1.1\r\n{HOST}\r\n\r\n")).head().assert(200);
        client.leave();
        assert_eq!(get(&mut world.client(), "/fine").assert(200).text(), "GET /fine");
        world.wait_until("no request is in progress", |counts| counts.active == 0);
    }
}

/// By ALPN: the origin server authenticates when the proxy asks, only then, and only once.
#[test]
fn after_alpn_there_is_no_upgrade() {
    for mode in MODES {
        let world = World::new();
        let origin = OriginServer::new(tunnel(world.origins).connections(1), mode, site).wait_served(&world);
        origin.expect_event("connected");
        let mut client = world.client();
        assert_eq!(get(&mut client, "/who").assert(200).text(), "Some(127.0.0.1) Some(\"app.example\")");
        // Clients that send the proxy's request get the handler's response.
        for path in ["/.well-known/uncork/hello", "/.well-known/uncork/refused"] {
            assert_eq!(get(&mut client, path).assert(200).text(), format!("GET {path}"));
        }
    }
}
