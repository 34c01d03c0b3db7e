//! Sending: full queues, shared frames, closing, and held receivers.

#![expect(clippy::disallowed_methods, reason = "the server needs time")]

use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use uncork::ws::{
    CloseCause, Closed, Config, Done, Frame, Handler, Message, MessageKind, MessagePart, SendError, Sender,
};

use crate::{
    peer::{BEGIN_TEXT, BINARY, CLOSE, END, MORE, PING, PLAIN, PONG, Peer, TEXT, serve_handlers},
    wire::Finish,
    world::{bytes, report_channel},
};

const MOMENT: Duration = Duration::from_millis(100);

/// Ignores messages, and reports the end.
struct Ignore(std::sync::mpsc::Sender<Closed>);

impl Handler for Ignore {
    fn message(&mut self, _: Message<'_>, _: Done) {}

    fn closed(&mut self, end: &Closed) {
        let _ = self.0.send(end.clone());
    }
}

/// Sends until the queue is full. Returns the number of accepted messages.
fn fill(sender: &Sender, frame: &Frame) -> usize {
    let mut taken = 0;
    loop {
        match sender.send(frame) {
            Ok(()) => taken += 1,
            Err(SendError::Full) => return taken,
            Err(SendError::Closed) => panic!("closed"),
        }
        if sender.queued() == 0 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_full_queue_is_reported_and_so_is_its_new_room() {
    let (host, senders) = serve_handlers(&PLAIN, Config::new().queue(300_000), || |_: Message<'_>, _| {});
    let mut peer = Peer::over(host.connect_narrow());
    let sender = senders.next();
    let frame = Frame::binary(&bytes(10_000));
    // The system accepts more meanwhile, which frees space. On a busy machine this takes a while.
    let (mut taken, mut still) = (0, 0);
    while still < 25 {
        let more = fill(&sender, &frame);
        (taken, still) = (taken + more, if more == 0 { still + 1 } else { 0 });
        std::thread::sleep(MOMENT / 5);
    }
    assert!(sender.queued() >= 300_000 && sender.queued() < 300_000 + frame.len(), "{}", sender.queued());
    let (report, reports) = channel();
    let weak = sender.clone();
    sender.on_room(move || report.send(weak.queued()).expect("a receiver"));
    assert!(reports.recv_timeout(MOMENT).is_err(), "the queue stays full without a reader");
    (0..taken).for_each(|_| _ = peer.expect(BINARY, bytes(10_000)));
    assert!(reports.recv_timeout(crate::wire::TIMEOUT).expect("room") <= 150_000);
    assert_eq!(sender.send(&frame), Ok(()));
    peer.expect(BINARY, bytes(10_000));
    peer.close();
}

#[test]
fn messages_are_counted_too() {
    let (host, senders) = serve_handlers(&PLAIN, Config::new().queue_messages(2), || |_: Message<'_>, _| {});
    let mut peer = Peer::over(host.connect_narrow());
    let sender = senders.next();
    let large = Frame::binary(&bytes(20 << 20));
    // The first is being sent, which lasts until the peer reads; two wait.
    assert_eq!(sender.send(&large), Ok(()));
    while sender.queued() > 0 {
        std::thread::sleep(MOMENT / 10);
    }
    let results: Vec<_> = (0..6).map(|i| sender.text(&i.to_string())).collect();
    let taken = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(taken, 3, "one that is next, and two behind it: {results:?}");
    peer.expect(BINARY, bytes(20 << 20)).expect(TEXT, "0").expect(TEXT, "1").expect(TEXT, "2");
    peer.close();
}

#[test]
fn one_frame_goes_to_many() {
    let (host, senders) = serve_handlers(&PLAIN, Config::new(), || |_: Message<'_>, _| {});
    let mut peers: Vec<Peer> = (0..100).map(|_| Peer::open(&host)).collect();
    let senders: Vec<Sender> = peers.iter().map(|_| senders.next()).collect();
    assert!(senders[0] == senders[0].clone() && senders[0] != senders[1]);
    for frame in [Frame::text("news"), Frame::binary(&bytes(100_000)), Frame::text_parts(&["in ", "parts"])] {
        senders.iter().for_each(|sender| sender.send(&frame).expect("room"));
        let first = if frame.kind() == MessageKind::Text { TEXT } else { BINARY };
        peers.iter_mut().for_each(|peer| _ = peer.expect(first, frame.payload()));
    }
    peers.into_iter().for_each(Peer::close);
}

#[test]
fn what_is_queued_goes_out_before_the_stream_ends() {
    let (report, closed) = report_channel();
    let (host, senders) = serve_handlers(&PLAIN, Config::new(), move || Ignore(report.clone()));
    let mut peer = Peer::over(host.connect_narrow());
    let sender = senders.next();
    sender.binary(&bytes(3 << 20)).expect("room");
    sender.close_without_handshake();
    assert_eq!(sender.text("late"), Err(SendError::Closed));
    peer.expect(BINARY, bytes(3 << 20)).wire.ends(Finish::Clean);
    let end = closed.next();
    assert_eq!((end.code, end.cause, end.is_clean()), (1006, CloseCause::ClosedWithoutHandshake, false));
    // Likewise with a Close.
    let mut peer = Peer::over(host.connect_narrow());
    let sender = senders.next();
    sender.binary(&bytes(3 << 20)).expect("room");
    // More than the queue may hold: there is space when the loop has taken it.
    let (report, reports) = channel();
    sender.on_room(move || report.send(()).expect("a receiver"));
    reports.recv_timeout(crate::wire::TIMEOUT).expect("room");
    sender.ping(b"").expect("room");
    sender.close(1000, "done");
    sender.close(1001, "ignored");
    sender.close_without_handshake();
    peer.expect(BINARY, bytes(3 << 20)).expect(PING, "").expect(CLOSE, [&1000u16.to_be_bytes()[..], b"done"].concat());
    peer.send(CLOSE, 1000u16.to_be_bytes()).wire.ends(Finish::Clean);
    assert_eq!(closed.next().cause, CloseCause::LocalClosed);
    assert!(closed.rest().is_empty(), "reported once");
}

#[test]
fn an_abort_is_immediate() {
    let (report, closed) = report_channel();
    let (host, senders) = serve_handlers(&PLAIN, Config::new(), move || Ignore(report.clone()));
    let mut peer = Peer::over(host.connect_narrow());
    let sender = senders.next();
    let frame = Frame::binary(&bytes(100_000));
    fill(&sender, &frame);
    let (report, reports) = channel();
    sender.on_room(move || report.send(()).expect("a receiver"));
    sender.abort();
    assert!(reports.recv_timeout(crate::wire::TIMEOUT).is_ok(), "a sender that waits for space is notified");
    assert_eq!(closed.next().cause, CloseCause::Aborted);
    assert_eq!((sender.send(&frame), sender.is_closed(), sender.queued()), (Err(SendError::Closed), true, 0));
    let (_, end) = peer.wire.until_end();
    assert_eq!(end, Finish::Reset);
    let (report, reports) = channel();
    sender.on_room(move || report.send(()).expect("a receiver"));
    assert!(reports.try_recv().is_ok(), "at once after the end");
}

/// Keeps its receiver, and reports messages.
struct Slow(std::sync::mpsc::Sender<(String, Done)>);

impl Handler for Slow {
    fn message(&mut self, message: Message<'_>, done: Done) {
        let Message::Text(text) = message else { panic!("text only") };
        self.0.send((text.to_owned(), done)).expect("a receiver");
    }
}

fn slow(config: Config) -> (crate::world::Host, Receiver<(String, Done)>) {
    let (report, reports) = channel();
    let (host, _) = serve_handlers(&PLAIN, config, move || Slow(report.clone()));
    (host, reports)
}

#[test]
fn the_next_message_follows_when_the_last_one_is_done() {
    let (host, reports) = slow(Config::new());
    let mut peer = Peer::open(&host);
    for text in ["a", "b", "c", "d"] {
        peer.send(TEXT, text);
    }
    peer.send(PING, "p");
    for (i, text) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let (message, done) = reports.recv_timeout(crate::wire::TIMEOUT).expect("a report");
        assert_eq!(message, text);
        assert!(reports.recv_timeout(MOMENT).is_err(), "one at a time");
        // By a call, and by dropping it, both from another thread.
        if i % 2 == 0 { done.next() } else { drop(done) }
    }
    peer.expect(PONG, "p");
    peer.close();
}

/// A peer that the server does not read from cannot be expected to respond to pings.
#[test]
fn no_clock_runs_against_a_peer_that_is_not_read_from() {
    let soon = Duration::from_millis(20);
    let (host, reports) = slow(Config::new().ping_interval(soon).pong_timeout(soon).idle_timeout(soon * 2));
    let mut peer = Peer::open(&host);
    peer.send(TEXT, "a");
    let (_, done) = reports.recv_timeout(crate::wire::TIMEOUT).expect("a report");
    std::thread::sleep(soon * 10);
    peer.send(TEXT, "b");
    done.next();
    assert_eq!(reports.recv_timeout(crate::wire::TIMEOUT).expect("a report").0, "b");
}

/// Receives parts.
struct Streaming(std::sync::mpsc::Sender<(String, bool, bool)>);

impl Handler for Streaming {
    fn message(&mut self, _: Message<'_>, _: Done) {
        panic!("it receives parts");
    }

    fn streams(&self) -> bool {
        true
    }

    fn part(&mut self, MessagePart { piece, first, last }: MessagePart<'_>, done: Done) {
        let Message::Text(text) = piece else { panic!("text only") };
        self.0.send((text.to_owned(), first, last)).expect("a receiver");
        std::thread::spawn(move || done.next());
    }
}

#[test]
fn a_message_can_be_received_in_parts() {
    let (report, reports) = channel();
    let (host, _) = serve_handlers(&PLAIN, Config::new(), move || Streaming(report.clone()));
    let mut peer = Peer::open(&host);
    let next = || reports.recv_timeout(crate::wire::TIMEOUT).expect("a report");
    let part = |text: &str, first, last| (text.to_owned(), first, last);
    peer.send(BEGIN_TEXT, "one");
    assert_eq!(next(), part("one", true, false));
    peer.send(MORE, &"tω".as_bytes()[..2]);
    assert_eq!(next(), part("t", false, false));
    peer.send(MORE, "").send(PING, "").expect(PONG, "");
    peer.send(END, &"tω".as_bytes()[2..]);
    assert_eq!(next(), part("ω", false, true));
    peer.send(TEXT, "whole");
    assert_eq!(next(), part("whole", true, true));
    peer.send(TEXT, "");
    assert_eq!(next(), part("", true, true));
    // A message that is too large is noticed when it is.
    peer.send(BEGIN_TEXT, "x").send(CLOSE, "");
    assert_eq!(next(), part("x", true, false));
    peer.expect(CLOSE, "").wire.ends(Finish::Clean);
}

/// Sends the payload of pings and pongs.
struct Hooks(Option<Sender>);

impl Handler for Hooks {
    fn open(&mut self, sender: &Sender) {
        sender.text("welcome").expect("room");
        self.0 = Some(sender.clone());
    }

    fn message(&mut self, _: Message<'_>, _: Done) {}

    fn ping(&mut self, payload: &[u8]) {
        self.0.as_ref().expect("opened").text(&format!("ping {}", payload.escape_ascii())).expect("room");
    }

    fn pong(&mut self, payload: &[u8]) {
        self.0.as_ref().expect("opened").text(&format!("pong {}", payload.escape_ascii())).expect("room");
    }
}

#[test]
fn a_handler_may_send_first_and_receives_pings() {
    let (host, _) = serve_handlers(&PLAIN, Config::new(), || Hooks(None));
    let mut peer = Peer::open(&host);
    peer.expect(TEXT, "welcome");
    peer.send(PING, "1").expect(PONG, "1").expect(TEXT, "ping 1");
    peer.send(PONG, "2").expect(TEXT, "pong 2");
    peer.close();
}

#[test]
fn messages_sent_before_the_101_come_first() {
    let host = PLAIN.serve(|req: &mut uncork::Request<'_>| -> uncork::Action {
        let Ok(accept) = uncork::ws::check(req) else { return uncork::Action::Abort };
        let (switch, sender) = accept.switch(Hooks(None));
        sender.text("hello").expect("room");
        switch.into()
    });
    let mut peer = Peer::open(&host);
    peer.expect(TEXT, "hello").expect(TEXT, "welcome");
    peer.close();
}
