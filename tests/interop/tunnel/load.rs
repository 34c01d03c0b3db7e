//! Many requests at once, slow ones among them, and large bodies with checksums.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use uncork::{Limits, Request, Response};

use super::{
    origin::site,
    origin_server::{Mode, OriginServer, tunnel},
    site::bytes,
    world::{World, config},
};

const HOST: &str = "Host: app.example";

#[test]
fn fifty_downloads_at_once_are_complete() {
    let world = World::new();
    // Each with its own bytes.
    let handler = |req: &mut Request<'_>| {
        let n: u8 = req.path()[1..].parse().unwrap_or(0);
        let mut body = bytes(1_000_000 + usize::from(n) * 1000);
        body.iter_mut().for_each(|byte| *byte ^= n);
        Response::new(200).header("X-Sum", format!("{:x?}", Sha256::digest(&body))).body(body)
    };
    let _origin_server = OriginServer::new(tunnel(world.origins), Mode::Threads, handler).wait_connected(&world);
    std::thread::scope(|scope| {
        for n in 0..50 {
            let world = &world;
            scope.spawn(move || {
                let mut client = world.client();
                let response = client.send(format!("GET /{n} HTTP/1.1\r\n{HOST}\r\n\r\n")).response();
                let sum = format!("{:x?}", Sha256::digest(&response.assert(200).body));
                assert_eq!(response.get("x-sum"), Some(sum.as_str()), "{n}");
                assert_eq!(response.body.len(), 1_000_000 + n * 1000);
            });
        }
    });
}

#[test]
fn ten_thousand_requests_a_hundred_at_once() {
    let mut proxy = config();
    proxy.streams_per_address = 1000;
    let world = World::with(proxy);
    let _origin_server = OriginServer::new(tunnel(world.origins), Mode::Threads, site).wait_connected(&world);
    std::thread::scope(|scope| {
        for thread in 0..100 {
            let world = &world;
            scope.spawn(move || {
                let mut client = world.client();
                for n in 0..100 {
                    let path = format!("/{thread}/{n}");
                    let response = client.send(format!("GET {path} HTTP/1.1\r\n{HOST}\r\n\r\n")).response();
                    assert_eq!(response.assert(200).text(), format!("GET {path}"));
                }
            });
        }
    });
    world.wait_until("no request is in progress", |counts| counts.active == 0);
}

/// Uploads and downloads fill both directions of one connection, whose buffers are smaller than a frame: neither end
/// waits for the other, and no byte is lost.
#[test]
fn uploads_and_downloads_share_a_connection_with_small_buffers() {
    let world = World::new();
    let limits = Limits { upgrade_input: 1000, output: 4096, ..Limits::default() };
    let _origin_server =
        OriginServer::new(tunnel(world.origins).connections(1).limits(limits), Mode::Threads, site).wait_served(&world);
    std::thread::scope(|scope| {
        for n in 0..12 {
            let world = &world;
            scope.spawn(move || {
                let (mut client, body) = (world.client(), bytes(400_000 + 30_000 * n));
                for _ in 0..3 {
                    client.send(format!("POST /echo HTTP/1.1\r\n{HOST}\r\nContent-Length: {}\r\n\r\n", body.len()));
                    assert!(client.send(&body).response().assert(200).body == body, "client {n}");
                }
            });
        }
    });
}

/// A reader of 16 KiB/s beside fast ones: it receives its bytes at its rate, and does not delay the others.
#[test]
fn a_slow_reader_does_not_slow_others() {
    let world = World::new();
    let limits = Limits { send_timeout: Duration::from_secs(20), ..Limits::default() };
    let _origin_server =
        OriginServer::new(tunnel(world.origins).connections(1).limits(limits), Mode::Threads, site).wait_served(&world);
    let mut slow = world.client();
    let head = slow.send(format!("GET /big HTTP/1.1\r\n{HOST}\r\n\r\n")).head();
    head.assert(200);
    let mut got = Vec::new();
    let began = Instant::now();
    let mut fast = world.client();
    let mut rounds = 0;
    while began.elapsed() < Duration::from_secs(2) {
        got.extend(slow.exactly(4096).expect("its bytes"));
        // On the same connection of the tunnel.
        let response = fast.send(format!("GET /big HTTP/1.1\r\n{HOST}\r\n\r\n")).response();
        assert!(response.assert(200).body == bytes(3_000_000));
        rounds += 1;
        std::thread::sleep(Duration::from_millis(250));
    }
    assert!(rounds >= 2, "{rounds} rounds");
    assert!(got[..] == bytes(3_000_000)[..got.len()]);
    let rest = slow.exactly(3_000_000 - got.len()).expect("the rest");
    assert!(rest[..] == bytes(3_000_000)[got.len()..]);
}

/// A handler that reads nothing holds back its sender, and no other.
#[test]
fn an_upload_without_a_reader_is_held_back() {
    let world = World::new();
    let (sender, tickets) = std::sync::mpsc::channel::<uncork::Ticket>();
    let handler = move |req: &mut Request<'_>| -> uncork::Action {
        if req.path() == "/held" {
            sender.send(req.ticket()).expect("a receiver");
            return uncork::Action::Suspend;
        }
        site(req)
    };
    let _origin_server =
        OriginServer::new(tunnel(world.origins).connections(1), Mode::Threads, handler).wait_served(&world);
    const ALL: usize = 64 << 20;
    let mut held = world.client();
    held.send(format!("POST /held HTTP/1.1\r\n{HOST}\r\nContent-Length: {ALL}\r\n\r\n"));
    let ticket = tickets.recv_timeout(Duration::from_secs(8)).expect("a request");
    let sent = held.push(&vec![0; ALL], Duration::from_millis(400));
    assert!(sent.is_none_or(|n| n < ALL / 2), "{sent:?} bytes were sent without a reader");
    let response = world.client().send(format!("GET /big HTTP/1.1\r\n{HOST}\r\n\r\n")).response();
    assert!(response.assert(200).body == bytes(3_000_000));
    ticket.respond(Response::text("enough")).expect("a suspended request");
    let mut status_line = [0; 12];
    let _ = held.line().map(|line| line.as_bytes().read(&mut status_line));
    assert_eq!(&status_line, b"HTTP/1.1 200");
}
