//! Connections: how HTTP/2 is chosen, and what one connection keeps apart.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use uncork::{ConnId, EndReason, Handler, Request, Response, Server, h1::Version};

use crate::{
    PLAIN, TLS, connect,
    http2::{Client, TIMEOUT},
    over_both,
    wire::{Finish, Wire},
    world::{Mode, World, identity, report_channel},
};

over_both! {
    every_request_has_its_connection_and_number,
    both_versions_are_served_on_one_port,
    a_connection_is_reported_once,
    a_client_that_closes_with_requests_in_progress_is_noticed,
}

/// RFC 7301: what both speak, in the server's order.
#[test]
fn alpn_chooses_the_version() {
    let host = TLS.serve(|req: &mut Request<'_>| Response::text(format!("{:?}", req.version())));
    let offer = |protocols: &[&str]| {
        let mut config = (*identity().client).clone();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    for protocols in [&["h2"][..], &["http/1.1", "h2"], &["h2", "http/1.1"]] {
        let mut client = Client::connect(host.addr(), Some(offer(protocols))).expect("connected");
        assert_eq!(client.link.alpn().as_deref(), Some(&b"h2"[..]), "{protocols:?}");
        assert_eq!(client.fetch("/").1, b"Http2");
    }
    for protocols in [&["http/1.1"][..], &[]] {
        let mut wire = Wire::connect(host.addr(), Some(offer(protocols)), None).expect("connected");
        assert_eq!(wire.request("GET /", &[]).response().text(), "Http11", "{protocols:?}");
    }
}

#[test]
fn a_server_may_speak_one_version_only() {
    let serve = |version: Version| {
        let handler = |req: &mut Request<'_>| Response::text(format!("{:?}", req.version()));
        let server = Server::bind("127.0.0.1:0").expect("bound").versions([version]);
        let running = server.threads(1, handler).expect("running");
        let (addr, stop) = (running.local_addr().expect("an address"), running.stop_handle());
        (addr, stop, std::thread::spawn(move || running.join().expect("ended")))
    };
    let (addr, stop, thread) = serve(Version::Http11);
    let mut client = Client::connect(addr, None).expect("connected");
    // What it gets is HTTP/1.1's rejection, which is no frame.
    client.until(TIMEOUT, |client, _| match &client.over {
        Some(_) => std::task::Poll::Ready(()),
        None => std::task::Poll::Pending,
    });
    assert!(client.over.expect("over").is_err());
    let mut wire = Wire::connect(addr, None, None).expect("connected");
    assert_eq!(wire.request("GET /", &[]).response().text(), "Http11");
    stop.stop_now();
    thread.join().expect("ended");
    let (addr, stop, thread) = serve(Version::Http2);
    let mut wire = Wire::connect(addr, None, None).expect("connected");
    wire.request("GET /", &[]).response().is(505);
    assert_eq!(Client::connect(addr, None).expect("connected").fetch("/").1, b"Http2");
    stop.stop_now();
    thread.join().expect("ended");
}

/// The preface is no request, wherever it is cut.
#[test]
fn the_preface_may_come_in_pieces() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let host = PLAIN.serve(|_: &mut Request<'_>| Response::text("fine"));
    for cut in 1..PREFACE.len() {
        let mut tcp = TcpStream::connect(host.addr()).expect("connected");
        tcp.set_nodelay(true).expect("set");
        tcp.set_read_timeout(Some(TIMEOUT)).expect("set");
        tcp.write_all(&PREFACE[..cut]).expect("sent");
        tcp.write_all(&[&PREFACE[cut..], &SETTINGS].concat()).expect("sent");
        let mut head = [0; 9];
        tcp.read_exact(&mut head).expect("a frame");
        assert_eq!(head[3], 4, "SETTINGS comes first, cut at {cut}: {head:?}");
    }
    for almost in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", "PRI * HTTP/1.1\r\n\r\n", "PRX"] {
        let mut wire = host.connect_over(&World::plain(Mode::Threads));
        wire.send(almost).finish();
        assert_ne!(wire.until_end().0.get(3), Some(&4), "{almost:?}");
    }
}

/// RFC 9113 §3.1 has removed it: the request is served as HTTP/1.1.
#[test]
fn an_upgrade_to_h2c_is_ignored() {
    let host = PLAIN.serve(|_: &mut Request<'_>| Response::text("fine"));
    let mut wire = host.connect_over(&World::plain(Mode::Threads));
    let fields = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"];
    assert_eq!(wire.request("GET /", &fields).response().is(200).text(), "fine");
    wire.finish().ends(Finish::Clean);
}

fn every_request_has_its_connection_and_number(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| Response::text(req.id().to_string()));
    let mut client = connect(&host);
    let ids: Vec<String> = (0..3).map(|_| String::from_utf8(client.fetch("/").1).expect("text")).collect();
    let conn = ids[0].strip_suffix("/1").expect("the first request");
    assert_eq!(ids[1..], [format!("{conn}/2"), format!("{conn}/3")]);
    assert!(!connect(&host).fetch("/").1.starts_with(conn.as_bytes()));
}

fn both_versions_are_served_on_one_port(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| Response::text(format!("{:?}", req.version())));
    let old = if world.tls { World::tls(world.mode) } else { World::plain(world.mode) };
    for _ in 0..3 {
        assert_eq!(connect(&host).fetch("/").1, b"Http2");
        assert_eq!(host.connect_over(&old).request("GET /", &[]).response().text(), "Http11");
    }
}

/// Reports the ends of connections.
#[derive(Clone)]
struct Closings(std::sync::mpsc::Sender<(ConnId, EndReason)>);

impl Handler for Closings {
    fn request(&mut self, req: &mut Request<'_>) -> uncork::Action {
        Response::text(req.conn().to_string()).into()
    }

    fn closed(&mut self, conn: ConnId, reason: &EndReason) {
        let _ = self.0.send((conn, *reason));
    }
}

fn a_connection_is_reported_once(world: &World) {
    let (report, closed) = report_channel();
    let host = world.serve(Closings(report));
    let mut client = connect(&host);
    let id = String::from_utf8(client.fetch("/").1).expect("text");
    for _ in 0..5 {
        assert_eq!(client.fetch("/").1, id.as_bytes());
    }
    drop(client);
    let (conn, _) = closed.next();
    assert_eq!(conn.to_string(), id);
    assert!(closed.is_silent(Duration::from_millis(20)));
}

fn a_client_that_closes_with_requests_in_progress_is_noticed(world: &World) {
    let ((report, ended), (report_ticket, tickets)) = (report_channel(), report_channel());
    let host = world.serve(move |req: &mut Request<'_>| {
        crate::world::report_end(req, &report);
        report_ticket.send(req.ticket()).expect("a receiver");
        uncork::Action::Suspend
    });
    for clean in [true, false] {
        let mut client = connect(&host);
        let _exchanges: Vec<_> = (0..5).map(|_| client.get("/")).collect();
        let tickets: Vec<_> = (0..5).map(|_| tickets.next()).collect();
        client.link.finish(clean);
        for _ in 0..5 {
            assert_eq!(ended.next().reason, EndReason::PeerClosed);
        }
        assert!(tickets.iter().all(uncork::Ticket::is_closed));
    }
}
