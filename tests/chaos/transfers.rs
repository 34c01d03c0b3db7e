//! Bodies through the rendezvous and the session relay: made on one node, sent on another, received on a third.

use std::{
    io,
    sync::Arc,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use crate::{
    cluster::{connect, exchange},
    run::{Random, Run},
};

/// The longest body, in pieces.
const PIECES: u64 = 60;
const PIECE: usize = 16 * 1024;

/// Returns a body that no other transfer has.
fn body(number: u64, pieces: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    (0..pieces as usize * PIECE / 8).flat_map(|_| random.next().to_be_bytes()).collect()
}

struct Transfer {
    number: u64,
    path: String,
    body: Vec<u8>,
    /// Of the host of a session.
    cookie: Option<String>,
    is_chunked: bool,
    pause: Duration,
}

pub(crate) fn transfer(run: &Arc<Run>, n: u64, mut random: Random) {
    while !run.is_over() {
        let nodes = [(); 3].map(|()| run.live_node(&mut random));
        let [owner, source, sink] = nodes;
        let (began, is_session, number) = (Instant::now(), n % 2 == 1, run.number());
        let was_cut = || run.had(began, |fault| fault.separates(owner, source) || fault.separates(owner, sink));
        let made = match is_session {
            true => exchange(run.ports()[owner].plain, "PUT /cama/session", &[], b""),
            false => exchange(run.ports()[owner].plain, "POST /stream", &[], b""),
        };
        let made = match made {
            Ok(made) if made.status == 201 => made,
            other => {
                if !was_cut() {
                    run.breaks(format!("no stream or session on node {owner}: {other:?}"));
                }
                continue;
            }
        };
        let id = || made.body.split(|b| *b == b'"').nth(3).map(|id| String::from_utf8_lossy(id).into_owned());
        let location = || made.get("location").map(str::to_owned);
        let path = if is_session { location() } else { id().map(|id| format!("/stream/{id}")) };
        let transfer = Transfer {
            number,
            path: path.expect("an id"),
            body: body(number, 1 + random.below(PIECES)),
            cookie: made.get("set-cookie").and_then(|cookie| cookie.split(';').next()).map(str::to_owned),
            // The session relay ends a message of unknown length normally when it is truncated.
            is_chunked: !is_session && random.below(2) == 0,
            pause: Duration::from_millis(random.below(60)),
        };
        let (sent, received) = thread::scope(|scope| {
            let sink = scope.spawn(|| transfer.receive(run.ports()[sink].plain));
            (transfer.send(run.ports()[source].plain), sink.join().expect("no panic"))
        });
        let is_whole = match &received {
            Ok((200, body)) if *body != transfer.body => {
                let (got, want) = (body.len(), transfer.body.len());
                return run.breaks(format!("{nodes:?} {}: {got} bytes look whole, of {want}", transfer.path));
            }
            Ok((200, _)) => true,
            _ => false,
        };
        let was_sent = sent.as_ref().is_ok_and(|status| *status == 200);
        let is_complete = is_whole && was_sent;
        if !is_complete && !was_cut() {
            let received = received.map(|(status, body)| (status, body.len()));
            run.breaks(format!(
                "{nodes:?} had no fault, but {} is not transferred: the source has {sent:?}, the receiver {received:?}",
                transfer.path
            ));
        }
        run.count(if is_whole { "transfers" } else { "transfers that failed visibly" });
        sleep(Duration::from_millis(random.below(100)));
    }
}

impl Transfer {
    fn receive(&self, port: u16) -> io::Result<(u16, Vec<u8>)> {
        let mut client = connect(port)?;
        let cookie = self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
        client.try_send(format!("GET {} HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n", self.path))?;
        let head = client.try_head()?;
        let body = client.body(&head)?;
        Ok((head.status, body))
    }

    fn send(&self, port: u16) -> io::Result<u16> {
        let mut client = connect(port)?;
        let method = if self.cookie.is_some() { "POST" } else { "PUT" };
        let framing = match self.is_chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", self.body.len()),
        };
        client.try_send(format!("{method} {} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n", self.path))?;
        for piece in self.body.chunks(PIECE) {
            if self.is_chunked {
                client.try_chunk(piece)?;
            } else {
                client.try_send(piece)?;
            }
            if self.number.is_multiple_of(3) {
                sleep(self.pause);
            }
        }
        if self.is_chunked {
            client.try_chunk(b"")?;
        }
        Ok(client.try_head()?.status)
    }
}
