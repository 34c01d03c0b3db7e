//! Both sides of a connection, in memory.

use std::{
    io::IoSlice,
    time::{Duration, Instant},
};

use super::{
    client::MayBegin,
    connection::{Connection, Event},
    frame::{self, ErrorCode, HEAD, Head, LARGEST},
    settings::{Options, Side},
    state::Fault,
};
use crate::{base::Limits, conn::message::ResponseSpec, h1::Headers};

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

fn server() -> Connection {
    Connection::new(&Options::server(&Limits::default()))
}

fn client() -> Connection {
    Connection::new(&Options { side: Side::Client, streams: 0, ..Options::server(&Limits::default()) })
}

/// Takes what `from` has written, and passes it to `to` in pieces of `step` bytes. Returns the events.
fn pass(from: &mut Connection, to: &mut Connection, step: usize) -> Vec<Event> {
    let (mut sent, mut events, mut held) = (Vec::new(), Vec::new(), Vec::new());
    from.drain(|bytes| {
        sent.extend_from_slice(bytes);
        bytes.len()
    });
    for piece in sent.chunks(step) {
        held.extend_from_slice(piece);
        loop {
            let (n, event) = to.receive(&held);
            held.drain(..n);
            if event == Event::Pending {
                break;
            }
            events.push(event);
            if let Some(Event::Request { stream, ended }) = events.last() {
                let fields = to.take_fields();
                assert_eq!(fields.len(), 4);
                to.return_fields(fields);
                to.open(*stream, 3, *ended, None);
            }
        }
    }
    assert!(held.is_empty() || to.error().is_some(), "whole frames were sent");
    events
}

/// Begins a request with this client.
fn begin(client: &mut Connection, ended: bool) -> u32 {
    let fields: [(&[u8], &[u8]); 4] =
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")];
    client.begin(fields.into_iter(), ended, false)
}

/// Sends the head of a response without a length.
fn respond(server: &mut Connection, stream: u32, status: u16) {
    let fields = Headers::new();
    server.encode_response(&ResponseSpec { status, fields: &fields, length: None, date: DATE }, None, false);
    server.send_head(stream, false, None);
}

fn write(connection: &mut Connection, stream: u32, bytes: &[u8]) -> usize {
    connection.write(stream, &[IoSlice::new(bytes)]).unwrap_or(0)
}

fn take(connection: &mut Connection, stream: u32) -> Vec<u8> {
    let mut all = Vec::new();
    while connection.take_with(stream, usize::MAX, |bytes| {
        all.extend_from_slice(bytes);
        bytes.len()
    }) > 0
    {}
    all
}

/// Returns the types and streams of the frames that wait to be sent.
fn frames(connection: &mut Connection) -> Vec<(u8, u32, usize)> {
    let (mut bytes, mut frames) = (Vec::new(), Vec::new());
    connection.drain(|piece| {
        bytes.extend_from_slice(piece);
        piece.len()
    });
    let mut rest = &bytes[..];
    while let Some(head) = Head::parse(rest) {
        frames.push((head.kind, head.stream, head.len));
        rest = &rest[HEAD + head.len..];
    }
    frames
}

/// Returns a server and a client that have exchanged their SETTINGS.
fn pair() -> (Connection, Connection) {
    let (mut server, mut client) = (server(), client());
    pass(&mut client, &mut server, usize::MAX);
    pass(&mut server, &mut client, usize::MAX);
    pass(&mut client, &mut server, usize::MAX);
    (server, client)
}

#[test]
fn an_exchange_arrives_however_it_is_cut() {
    for step in [1, 2, 7, 100, usize::MAX] {
        let (mut server, mut client) = (server(), client());
        let stream = begin(&mut client, false);
        assert_eq!(write(&mut client, stream, b"the body"), 8);
        let mut trailers = Headers::new();
        trailers.append("X-Sum", "7").expect("a field");
        client.finish(stream, Some(&trailers));
        assert_eq!(pass(&mut client, &mut server, step), [Event::Request { stream, ended: false }]);
        assert_eq!(take(&mut server, stream), b"the body");
        let end = server.take_end(stream).expect("the end").expect("trailers");
        assert_eq!(end.get("x-sum"), Some(&b"7"[..]));
        assert_eq!(server.take_end(stream), None, "once");
        respond(&mut server, stream, 200);
        assert_eq!(write(&mut server, stream, b"the response"), 12);
        server.finish(stream, None);
        server.release(stream);
        pass(&mut server, &mut client, step);
        let head = client.take_head(stream).expect("a head");
        assert_eq!((head.status, head.fields.get("date")), (200, Some(&DATE[..])));
        assert_eq!(take(&mut client, stream), b"the response");
        assert_eq!((client.take_end(stream), client.fault(stream)), (Some(None), None));
        client.release(stream);
        assert_eq!((client.open, server.open), (0, 0));
        assert!(server.streams.is_empty() && client.streams.is_empty());
    }
}

#[test]
fn what_is_not_taken_is_not_sent() {
    let (mut server, mut client) = pair();
    let stream = begin(&mut client, false);
    let block = vec![b'x'; LARGEST];
    let mut sent = 0;
    for _ in 0..1000 {
        client.wake(stream);
        sent += write(&mut client, stream, &block);
        pass(&mut client, &mut server, usize::MAX);
        pass(&mut server, &mut client, usize::MAX);
    }
    assert_eq!((sent, server.held(stream)), (64 * 1024, 64 * 1024));
    assert_eq!(take(&mut server, stream).len(), sent);
    pass(&mut server, &mut client, usize::MAX);
    let mut woken = Vec::new();
    client.take_woken(&mut woken);
    assert_eq!(woken, [stream], "its window was opened");
    assert!(write(&mut client, stream, &block) > 0);
}

#[test]
fn padding_counts_and_is_received_at_once() {
    let (mut server, mut client) = pair();
    let stream = begin(&mut client, false);
    pass(&mut client, &mut server, usize::MAX);
    let mut padded = Head { len: 256, kind: frame::DATA, flags: frame::PADDED, stream }.bytes().to_vec();
    padded.push(255);
    padded.resize(HEAD + 256, 0);
    // 250 KiB, where the window has 64.
    for _ in 0..1000 {
        client.out.push(&padded);
        pass(&mut client, &mut server, usize::MAX);
        pass(&mut server, &mut client, usize::MAX);
    }
    assert_eq!((server.fault(stream), server.error(), server.held(stream)), (None, None, 0));
}

#[test]
fn bytes_of_streams_that_are_gone_count_as_received() {
    let (mut server, mut client) = pair();
    // Much more than the connection's window, which is 1 MiB.
    for _ in 0..40 {
        let stream = begin(&mut client, false);
        client.wake(stream);
        let sent = write(&mut client, stream, &vec![b'x'; 64 * 1024]);
        assert!(sent > 0, "the connection's window is open");
        pass(&mut client, &mut server, usize::MAX);
        // The application never reads.
        server.release(stream);
        pass(&mut server, &mut client, usize::MAX);
        assert_eq!(client.fault(stream), Some(Fault::Reset(ErrorCode::Cancel as u32)));
        client.release(stream);
    }
    assert_eq!((server.error(), client.error()), (None, None));
}

#[test]
fn streams_share_the_output_by_urgency_then_by_turns() {
    let (mut server, mut client) = pair();
    let streams: Vec<u32> = (0..4).map(|_| begin(&mut client, true)).collect();
    let mut bytes = Vec::new();
    client.drain(|piece| {
        bytes.extend_from_slice(piece);
        piece.len()
    });
    // The third is urgent.
    let mut rest = &bytes[..];
    while let (n, Event::Request { stream, ended }) = server.receive(rest) {
        rest = &rest[n..];
        server.open(stream, if stream == streams[2] { 1 } else { 3 }, ended, None);
        respond(&mut server, stream, 200);
    }
    // The windows do not limit them.
    for stream in [0, streams[0], streams[1], streams[2], streams[3]] {
        server.handle_window_update(stream, 1 << 24).expect("a window");
    }
    let body = vec![b'x'; 256 * 1024];
    let mut order = Vec::new();
    streams.iter().for_each(|stream| server.wake(*stream));
    for _ in 0..24 {
        let mut woken = Vec::new();
        server.take_woken(&mut woken);
        for stream in woken {
            write(&mut server, stream, &body);
        }
        if !server.wake_waiting() {
            assert!(server.is_full() || server.waiting.is_empty());
            order.extend(frames(&mut server).into_iter().filter(|(kind, ..)| *kind == frame::DATA));
            assert!(server.wake_waiting());
        }
    }
    let of = |stream| order.iter().filter(|(_, of, _)| *of == stream).map(|(.., len)| len).sum::<usize>();
    let shares: Vec<usize> = streams.iter().map(|stream| of(*stream)).collect();
    assert!(shares[2] > 2 * shares[0].max(shares[1]).max(shares[3]), "{shares:?}");
    let others = [shares[0], shares[1], shares[3]];
    let (least, most) = (others.iter().min().unwrap_or(&0), others.iter().max().unwrap_or(&0));
    assert!(most - least <= 2 * LARGEST, "{shares:?}");
}

#[test]
fn a_shutdown_lets_requests_finish_that_are_on_their_way() {
    let (mut server, mut client) = pair();
    let first = begin(&mut client, true);
    pass(&mut client, &mut server, usize::MAX);
    server.shut_down();
    // Sent before the client has seen the GOAWAY.
    let second = begin(&mut client, true);
    assert_eq!(pass(&mut client, &mut server, usize::MAX).len(), 1);
    pass(&mut server, &mut client, usize::MAX);
    assert_eq!(client.may_begin(), MayBegin::Never);
    assert_eq!((client.fault(first), client.fault(second)), (None, None), "the first GOAWAY names no stream");
    // Against the rules: behind the response to the ping.
    let third = begin(&mut client, true);
    assert_eq!(pass(&mut client, &mut server, usize::MAX), [], "ignored");
    pass(&mut server, &mut client, usize::MAX);
    assert_eq!((client.fault(second), client.fault(third)), (None, Some(Fault::Unseen)));
    for stream in [first, second] {
        assert!(!server.is_complete());
        respond(&mut server, stream, 200);
        server.finish(stream, None);
        server.release(stream);
    }
    assert!(server.is_complete() && server.error().is_none());
}

#[test]
fn nothing_comes_behind_a_goaway_with_an_error() {
    let (mut server, mut client) = pair();
    let (first, second) = (begin(&mut client, false), begin(&mut client, true));
    for _ in 0..4 {
        client.wake(first);
        write(&mut client, first, &[b'x'; LARGEST]);
    }
    pass(&mut client, &mut server, usize::MAX);
    respond(&mut server, second, 200);
    frames(&mut server);
    // DATA on the connection.
    client.out.push(&Head { len: 1, kind: frame::DATA, flags: 0, stream: 0 }.bytes());
    client.out.push(b"x");
    pass(&mut client, &mut server, usize::MAX);
    let mut woken = Vec::new();
    server.take_woken(&mut woken);
    assert_eq!(woken, [first, second], "each learns that it has ended");
    respond(&mut server, first, 200);
    assert_eq!((write(&mut server, second, b"late"), take(&mut server, first).len()), (0, 0));
    server.finish(second, None);
    server.shut_down();
    assert!(!server.ping());
    server.release(first);
    server.release(second);
    assert_eq!(frames(&mut server), [(frame::GOAWAY, 0, 8)]);
    assert_eq!((server.error(), server.open), (Some(ErrorCode::Protocol), 0));
}

#[test]
fn faults_of_streams_are_counted_and_responses_make_up_for_them() {
    let (mut server, mut client) = pair();
    for n in 0..5000 {
        let stream = begin(&mut client, true);
        client.release(stream);
        pass(&mut client, &mut server, usize::MAX);
        server.release(stream);
        if server.error().is_some() {
            assert_eq!((server.error(), n), (Some(ErrorCode::EnhanceYourCalm), 1000));
            break;
        }
    }
    assert!(server.error().is_some());
    let (mut server, mut client) = pair();
    for n in 0..5000 {
        let stream = begin(&mut client, n % 2 == 0);
        if n % 2 == 1 {
            client.release(stream);
        }
        pass(&mut client, &mut server, usize::MAX);
        if n % 2 == 0 {
            respond(&mut server, stream, 200);
            server.finish(stream, None);
        }
        server.release(stream);
        pass(&mut server, &mut client, usize::MAX);
        client.release(stream);
    }
    assert_eq!(server.error(), None);
}

/// A connection may live for any time: only what comes at once is a flood.
#[test]
#[expect(clippy::disallowed_methods, reason = "a starting point for a virtual clock")]
fn a_flood_ends_the_connection_and_the_same_frames_over_time_do_not() {
    let change_settings = |client: &mut Connection| frame::write_settings(&mut client.out, &[]);
    let reset = |client: &mut Connection| {
        let stream = begin(client, true);
        client.release(stream);
    };
    for (what, act) in [("SETTINGS", &change_settings as &dyn Fn(&mut Connection)), ("RST_STREAM", &reset)] {
        for pause in [Duration::ZERO, Duration::from_millis(100)] {
            let (mut server, mut client) = pair();
            let (mut now, mut acts) = (Instant::now(), 0);
            while acts < 5000 && server.error().is_none() {
                now += pause;
                server.set_now(now);
                act(&mut client);
                pass(&mut client, &mut server, usize::MAX);
                server.release(client.last);
                pass(&mut server, &mut client, usize::MAX);
                acts += 1;
            }
            let calm = Some(ErrorCode::EnhanceYourCalm);
            match pause {
                // The first SETTINGS count, too.
                Duration::ZERO => assert!(server.error() == calm && (1000..=1001).contains(&acts), "{what}: {acts}"),
                _ => assert_eq!((server.error(), acts), (None, 5000), "{what}"),
            }
        }
    }
}

#[test]
fn a_malformed_response_is_a_fault_of_its_stream() {
    for (fields, ended) in [
        (&[("x", "y")][..], false),
        (&[(":status", "20")], false),
        (&[(":status", "101")], false),
        (&[(":status", "103")], true),
        (&[(":status", "200"), (":path", "/")], false),
        (&[(":status", "200"), ("connection", "close")], false),
        (&[(":status", "200"), ("content-length", "5")], true),
        (&[(":status", "200"), ("content-length", "5"), ("content-length", "6")], false),
    ] {
        let (mut server, mut client) = pair();
        let streams = [begin(&mut client, true), begin(&mut client, true)];
        pass(&mut client, &mut server, usize::MAX);
        server.block.clear();
        server.encoder.begin(&mut server.block);
        for (name, value) in fields {
            server.encoder.field(name.as_bytes(), value.as_bytes(), &mut server.block);
        }
        frame::write_headers(&mut server.out, streams[0], &server.block, ended);
        respond(&mut server, streams[1], 204);
        pass(&mut server, &mut client, usize::MAX);
        assert_eq!(client.fault(streams[0]), Some(Fault::Own(ErrorCode::Protocol)), "{fields:?}");
        assert_eq!(client.take_head(streams[1]).map(|head| head.status), Some(204), "{fields:?}");
        assert_eq!(client.error(), None);
    }
}

#[test]
fn a_client_keeps_to_the_number_of_streams() {
    let mut options = Options::server(&Limits::default());
    options.streams = 2;
    let (mut server, mut client) = (Connection::new(&options), client());
    pass(&mut server, &mut client, usize::MAX);
    let first = begin(&mut client, true);
    begin(&mut client, true);
    assert_eq!(client.may_begin(), MayBegin::Later);
    pass(&mut client, &mut server, usize::MAX);
    // One too many is refused, and may be tried again.
    let third = begin(&mut client, true);
    assert_eq!(pass(&mut client, &mut server, usize::MAX), []);
    respond(&mut server, first, 204);
    server.finish(first, None);
    server.release(first);
    pass(&mut server, &mut client, usize::MAX);
    assert_eq!(client.fault(third), Some(Fault::Reset(ErrorCode::RefusedStream as u32)));
    client.release(third);
    assert_eq!(client.may_begin(), MayBegin::Now);
}

#[test]
fn an_idle_connection_is_small() {
    let (mut server, mut client) = pair();
    for _ in 0..50 {
        let stream = begin(&mut client, true);
        pass(&mut client, &mut server, usize::MAX);
        respond(&mut server, stream, 200);
        write(&mut server, stream, &[b'x'; 10_000]);
        server.finish(stream, None);
        server.release(stream);
        pass(&mut server, &mut client, usize::MAX);
        client.release(stream);
    }
    server.rest();
    let (capacity, own) = (server.block.capacity() + 4 * server.woken.capacity(), size_of::<Connection>());
    assert!(capacity < 512 && own < 1024, "{capacity} and {own} bytes");
    assert!(server.streams.capacity() <= 4 && server.waiting.is_empty());
}

/// What a client must not discard (RFC 9113 §8.1).
#[test]
fn what_has_arrived_of_a_response_outlives_the_stream_and_the_connection() {
    for (complete, goes_away) in [(true, false), (true, true), (false, false), (false, true)] {
        let (mut server, mut client) = pair();
        let stream = begin(&mut client, false);
        pass(&mut client, &mut server, usize::MAX);
        respond(&mut server, stream, 200);
        assert_eq!(write(&mut server, stream, b"early"), 5);
        if complete {
            server.finish(stream, None);
        }
        if goes_away {
            pass(&mut server, &mut client, usize::MAX);
            client.end();
        } else {
            // The rest of the request is not read.
            server.release(stream);
            pass(&mut server, &mut client, usize::MAX);
        }
        assert!(!client.may_write(stream), "the rest of the request is not sent");
        assert_eq!(client.open, 0);
        assert_eq!(client.take_head(stream).map(|head| head.status), Some(200));
        assert_eq!(take(&mut client, stream), b"early");
        let fault = if goes_away { Fault::Gone } else { Fault::Reset(ErrorCode::Cancel as u32) };
        let want = if complete { (Some(None), None) } else { (None, Some(fault)) };
        assert_eq!((client.take_end(stream), client.fault(stream)), want);
        frames(&mut client);
        client.release(stream);
        assert_eq!(frames(&mut client), [], "nothing is left to be reset");
    }
}

/// Otherwise two sides that send much to each other would wait for each other.
#[test]
fn frames_are_taken_while_streams_fill_the_output() {
    let (mut server, mut client) = pair();
    let streams = [begin(&mut client, false), begin(&mut client, false)];
    for stream in streams {
        client.wake(stream);
        write(&mut client, stream, &[b'x'; 64 * 1024]);
    }
    assert!(client.is_full() && client.takes_input());
    while client.takes_input() {
        frame::write_ping(&mut server.out, false, [0; 8]);
        pass(&mut server, &mut client, usize::MAX);
    }
    assert!(client.out.len() < 96 * 1024, "a peer that does not read is not read");
}

#[test]
fn resets_are_remembered_until_a_later_ping_was_answered() {
    let (mut server, mut client) = pair();
    let streams = [begin(&mut client, false), begin(&mut client, false)];
    pass(&mut client, &mut server, usize::MAX);
    server.release(streams[0]);
    assert!(server.ping());
    server.release(streams[1]);
    // On its way: DATA, which the client sent before it knew.
    for stream in streams {
        client.wake(stream);
        assert_eq!(write(&mut client, stream, b"late"), 4);
    }
    pass(&mut server, &mut client, usize::MAX);
    pass(&mut client, &mut server, usize::MAX);
    assert!(!server.awaits_pong() && server.fault_budget.is_full());
    assert_eq!(
        streams.map(|stream| server.resets.contains(stream)),
        [false, true],
        "this one was reset behind the ping"
    );
}

/// A client may have them all open when it learns of the first reset.
#[test]
fn as_many_resets_are_remembered_as_streams_may_be_open() {
    let mut server = Connection::new(&Options::server(&Limits { streams: 600, ..Limits::default() }));
    let mut client = client();
    pass(&mut server, &mut client, usize::MAX);
    let streams = [(); 600].map(|()| begin(&mut client, false));
    pass(&mut client, &mut server, usize::MAX);
    for stream in streams {
        server.release(stream);
    }
    for stream in streams {
        client.wake(stream);
        client.finish(stream, Some(&Headers::default()));
    }
    pass(&mut client, &mut server, usize::MAX);
    assert_eq!((server.error(), server.fault_budget.is_full()), (None, true));
}

#[test]
fn small_frames_take_no_more_memory_than_their_bytes() {
    let (mut server, mut client) = pair();
    let stream = begin(&mut client, false);
    for _ in 0..30_000 {
        client.wake(stream);
        assert_eq!(write(&mut client, stream, b"x"), 1);
        pass(&mut client, &mut server, usize::MAX);
    }
    let held = server.state(stream).map(|state| state.held.capacity());
    assert!(held.is_some_and(|bytes| (30_000..=32 * 1024).contains(&bytes)), "{held:?}");
    assert_eq!(take(&mut server, stream).len(), 30_000);
    assert_eq!(server.state(stream).map(|state| state.held.capacity()), Some(0));
}

#[test]
fn without_a_limit_a_client_may_begin_any_number_of_streams() {
    let mut client = client();
    assert_eq!(client.stream_limit(), 100, "before it knows");
    let settings = |settings: &[(u16, u32)]| {
        let mut out = crate::base::out::Out::default();
        frame::write_settings(&mut out, settings);
        out.only_piece().map(<[u8]>::to_vec).unwrap_or_default()
    };
    client.receive(&settings(&[]));
    assert_eq!(client.stream_limit(), u32::MAX);
    client.receive(&settings(&[(frame::setting::MAX_CONCURRENT_STREAMS, 7)]));
    client.receive(&settings(&[(frame::setting::INITIAL_WINDOW_SIZE, 7)]));
    assert_eq!(client.stream_limit(), 7);
}

#[test]
fn what_comes_behind_the_last_stream_of_a_goaway_is_ignored() {
    let (mut server, mut client) = pair();
    let first = begin(&mut client, false);
    pass(&mut client, &mut server, usize::MAX);
    server.shut_down();
    pass(&mut server, &mut client, usize::MAX);
    pass(&mut client, &mut server, usize::MAX);
    assert_eq!(server.goaway, super::state::Goaway::Final(first));
    // RFC 9113 §6.8: "the sender will ignore frames sent on streams initiated by the receiver if the stream has an
    // identifier higher than the included last stream identifier".
    let late = begin(&mut client, false);
    assert_eq!(write(&mut client, late, &[b'x'; 40_000]), 16 * 1024);
    frame::write_window_update(&mut client.out, late, 0);
    frame::write_data_head(&mut client.out, late, 0, true);
    frame::write_reset(&mut client.out, late, ErrorCode::Cancel);
    assert_eq!(pass(&mut client, &mut server, 100), []);
    assert_eq!(server.error(), None);
    assert_eq!(write(&mut client, first, b"goes on"), 7);
    pass(&mut client, &mut server, 100);
    assert_eq!((server.error(), take(&mut server, first)), (None, b"goes on".to_vec()));
}

/// Otherwise a part of it could be taken for the next response, where it is passed on over HTTP/1.1.
#[test]
fn a_response_without_a_body_has_no_data() {
    for (head_only, status) in [(true, 200), (false, 204), (false, 304)] {
        let (mut server, mut client) = pair();
        let fields: [(&[u8], &[u8]); 4] =
            [(b":method", b"HEAD"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")];
        let streams = [(); 2].map(|()| client.begin(fields.into_iter(), true, head_only));
        pass(&mut client, &mut server, usize::MAX);
        for (stream, body) in [(streams[0], &b""[..]), (streams[1], b"HTTP/1.1 200 OK")] {
            respond(&mut server, stream, status);
            write(&mut server, stream, body);
            server.finish(stream, None);
        }
        pass(&mut server, &mut client, usize::MAX);
        let faults = streams.map(|stream| client.fault(stream));
        assert_eq!(faults, [None, Some(Fault::Own(ErrorCode::Protocol))], "{status}");
        assert!(take(&mut client, streams[1]).is_empty());
    }
}
