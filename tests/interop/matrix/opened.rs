//! Connections as the handler counts them: `opened` and `closed` pair, on the connection's own clone.

use std::{os::fd::BorrowedFd, sync::mpsc::Sender};

use uncork::{Action, ConnId, EndReason, Handler, Limits, PeerAddr, Request, Response};

use crate::{
    wire::request,
    world::{Host, Reports, World, report_channel},
};

matrix! {
    everywhere { each_connection_is_reported_once, the_handler_can_ask_about_the_socket }
    http1 {
        a_rejected_connection_is_not_reported,
        a_client_behind_a_proxy_is_reported_by_its_own_address,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Report {
    Opened(ConnId, Option<std::net::IpAddr>),
    Closed(ConnId, usize),
}

/// Keeps state for each connection, as a handler does that needs the pair.
struct Counting {
    open: Vec<(ConnId, usize)>,
    report: Sender<Report>,
}

/// The clone of another loop has no connections yet.
impl Clone for Counting {
    fn clone(&self) -> Self {
        Self { open: Vec::new(), report: self.report.clone() }
    }
}

impl Handler for Counting {
    fn request(&mut self, req: &mut Request<'_>) -> Action {
        let conn = req.conn();
        let (_, requests) = self.open.iter_mut().find(|(id, _)| *id == conn).expect("it was reported");
        *requests += 1;
        Response::text(requests.to_string()).into()
    }

    fn accept(&mut self, peer: &PeerAddr) -> bool {
        peer.ip().is_none_or(|ip| ip.to_string() != "127.0.0.66" && ip.to_string() != "192.0.2.66")
    }

    fn opened(&mut self, conn: ConnId, peer: &PeerAddr, _: Option<BorrowedFd<'_>>) {
        self.open.push((conn, 0));
        let _ = self.report.send(Report::Opened(conn, peer.ip()));
    }

    fn closed(&mut self, conn: ConnId, _: &EndReason) {
        let index = self.open.iter().position(|(id, _)| *id == conn).expect("it was reported");
        let (_, requests) = self.open.swap_remove(index);
        let _ = self.report.send(Report::Closed(conn, requests));
    }
}

fn counting() -> (Counting, Reports<Report>) {
    let (report, reports) = report_channel();
    (Counting { open: Vec::new(), report }, reports)
}

/// Returns the connection that was reported next as opened.
fn next_opened(reports: &Reports<Report>) -> (ConnId, Option<std::net::IpAddr>) {
    match reports.next() {
        Report::Opened(conn, ip) => (conn, ip),
        report => panic!("{report:?}"),
    }
}

fn each_connection_is_reported_once(world: &World) {
    let (handler, reports) = counting();
    let host: Host = world.serve_within(Limits::default(), handler);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut wire = host.connect();
        for n in 1..=2 {
            assert_eq!(wire.request("GET /", &[]).response().is(200).text(), n.to_string());
        }
        let (conn, _) = next_opened(&reports);
        assert!(!seen.contains(&conn), "{conn}");
        wire.finish();
        assert_eq!(reports.next(), Report::Closed(conn, 2));
        seen.push(conn);
    }
}

fn a_rejected_connection_is_not_reported(world: &World) {
    let (handler, reports) = counting();
    let host = world.serve_within(Limits::default(), handler);
    let served = host.try_connect_from([127, 0, 0, 66]).and_then(|mut wire| {
        wire.try_send(request("GET /", &[]))?;
        wire.try_response()
    });
    assert!(served.is_err());
    let mut wire = host.connect();
    wire.request("GET /", &[]).response().is(200);
    let (conn, _) = next_opened(&reports);
    wire.finish();
    assert_eq!(reports.next(), Report::Closed(conn, 1));
    assert_eq!(reports.rest(), []);
}

fn a_client_behind_a_proxy_is_reported_by_its_own_address(world: &World) {
    let (handler, reports) = counting();
    let host = world.serve_proxies(Limits::default(), handler);
    for (client, served) in [("192.0.2.1", true), ("192.0.2.66", false)] {
        let header = format!("PROXY TCP4 {client} 198.51.100.7 50000 443\r\n");
        let answered = host.connect_with_prefix(header.as_bytes(), usize::MAX).and_then(|mut wire| {
            wire.try_send(request("GET /", &[]))?;
            wire.try_response()
        });
        assert_eq!(answered.is_ok(), served, "{client}");
        if served {
            let (conn, ip) = next_opened(&reports);
            assert_eq!(ip.map(|ip| ip.to_string()).as_deref(), Some(client));
            assert_eq!(reports.next(), Report::Closed(conn, 1));
        }
    }
    assert_eq!(reports.rest(), [], "neither the client that was rejected, nor a proxy without one");
}

/// The socket that the handler sees is the one of the client.
fn the_handler_can_ask_about_the_socket(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| {
        let socket = req.socket().and_then(|socket| socket.try_clone_to_owned().ok()).map(std::net::TcpStream::from);
        let peer = socket.and_then(|socket| socket.peer_addr().ok()).map(PeerAddr::tcp);
        Response::text(if peer.as_ref() == Some(req.peer()) { "its peer" } else { "another" })
    });
    assert_eq!(host.connect().request("GET /", &[]).response().is(200).text(), "its peer");
}
