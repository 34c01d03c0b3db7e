//! Many requests at once, slow ones among them, and large bodies with checksums.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use uncork::{Limits, Request, Response};

use super::{
    dug::{Dug, Mode, tunnel},
    origin::site,
    site::bytes,
    world::{World, config},
};

const HOST: &str = "Host: app.example";

#[test]
fn fifty_downloads_at_once_are_whole() {
    let world = World::new();
    // Each with its own bytes.
    let handler = |req: &mut Request<'_>| {
        let n: u8 = req.path()[1..].parse().unwrap_or(0);
        let mut body = bytes(1_000_000 + usize::from(n) * 1000);
        body.iter_mut().for_each(|byte| *byte ^= n);
        Response::new(200).header("X-Sum", format!("{:x?}", Sha256::digest(&body))).body(body)
    };
    let _dug = Dug::new(tunnel(world.origins), Mode::Threads, handler).stands(&world);
    std::thread::scope(|scope| {
        for n in 0..50 {
            let world = &world;
            scope.spawn(move || {
                let mut client = world.client();
                let answer = client.send(format!("GET /{n} HTTP/1.1\r\n{HOST}\r\n\r\n")).answer();
                let sum = format!("{:x?}", Sha256::digest(&answer.assert(200).body));
                assert_eq!(answer.get("x-sum"), Some(sum.as_str()), "{n}");
                assert_eq!(answer.body.len(), 1_000_000 + n * 1000);
            });
        }
    });
}

#[test]
fn ten_thousand_requests_a_hundred_at_once() {
    let mut proxy = config();
    proxy.streams_per_address = 1000;
    let world = World::with(proxy);
    let _dug = Dug::new(tunnel(world.origins), Mode::Threads, site).stands(&world);
    std::thread::scope(|scope| {
        for thread in 0..100 {
            let world = &world;
            scope.spawn(move || {
                let mut client = world.client();
                for n in 0..100 {
                    let path = format!("/{thread}/{n}");
                    let answer = client.send(format!("GET {path} HTTP/1.1\r\n{HOST}\r\n\r\n")).answer();
                    assert_eq!(answer.assert(200).text(), format!("GET {path}"));
                }
            });
        }
    });
    world.until("nothing under way", |counts| counts.active == 0);
}

/// A reader of 16 KiB/s beside fast ones: it receives its bytes at its rate, and does not delay the others.
#[test]
fn a_slow_reader_slows_nobody_else() {
    let world = World::new();
    let limits = Limits { send_timeout: Duration::from_secs(20), ..Limits::default() };
    let _dug = Dug::new(tunnel(world.origins).connections(1).limits(limits), Mode::Threads, site).serves(&world);
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
        let answer = fast.send(format!("GET /big HTTP/1.1\r\n{HOST}\r\n\r\n")).answer();
        assert!(answer.assert(200).body == bytes(3_000_000));
        rounds += 1;
        std::thread::sleep(Duration::from_millis(250));
    }
    assert!(rounds >= 2, "{rounds} rounds");
    assert!(got[..] == bytes(3_000_000)[..got.len()]);
    let rest = slow.exactly(3_000_000 - got.len()).expect("the rest");
    assert!(rest[..] == bytes(3_000_000)[got.len()..]);
}

/// A handler that takes nothing pushes back its sender, and no other.
#[test]
fn an_upload_nobody_takes_pushes_back() {
    let world = World::new();
    let (tell, told) = std::sync::mpsc::channel::<uncork::Ticket>();
    let handler = move |req: &mut Request<'_>| -> uncork::Action {
        if req.path() == "/held" {
            tell.send(req.ticket()).expect("heard");
            return uncork::Action::Suspend;
        }
        site(req)
    };
    let _dug = Dug::new(tunnel(world.origins).connections(1), Mode::Threads, handler).serves(&world);
    const ALL: usize = 64 << 20;
    let mut held = world.client();
    held.send(format!("POST /held HTTP/1.1\r\n{HOST}\r\nContent-Length: {ALL}\r\n\r\n"));
    let ticket = told.recv_timeout(Duration::from_secs(8)).expect("asked");
    let went = held.push(&vec![0; ALL], Duration::from_millis(400));
    assert!(went.is_none_or(|n| n < ALL / 2), "{went:?} bytes were sent without a reader");
    let answer = world.client().send(format!("GET /big HTTP/1.1\r\n{HOST}\r\n\r\n")).answer();
    assert!(answer.assert(200).body == bytes(3_000_000));
    ticket.respond(Response::text("enough")).expect("a suspended request");
    let mut told = [0; 12];
    let _ = held.line().map(|line| line.as_bytes().read(&mut told));
    assert_eq!(&told, b"HTTP/1.1 200");
}
