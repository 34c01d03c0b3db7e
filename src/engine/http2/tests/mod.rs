//! What a connection does when a window is closed, the output is full, or no buffer is left: it goes on when it can, and
//! ends in time when it cannot.

pub(super) mod client;

use std::time::Duration;

use self::client::{ALL, Client, FILE, connect, frame, ping, request, window_update};
use crate::{
    api::Response,
    base::{EndReason, Limits, Timeout, pool::LENT},
    engine::phase::Phase,
    h2::frame::{self as h2, LARGEST},
};

/// The smallest number of buffers.
fn few_buffers() -> Limits {
    Limits { buffers: 8 * LENT, ..Limits::default() }
}

#[test]
fn an_idle_connection_ends_although_a_frame_is_always_incomplete() {
    let mut client = Client::new(Limits::default(), 32 * 1024, 65_535);
    let ping = ping();
    client.send(&ping[..5]);
    client.go(ALL);
    while !client.engine.is_vacant() {
        assert!(client.seconds() < 300, "without a request");
        client.send(&[&ping[5..], &ping[..5]].concat());
        client.pass(1, ALL);
    }
}

/// The connection's window is used up while another stream waits for room in the output.
#[test]
fn after_a_half_close_every_stream_that_cannot_go_on_ends() {
    let mut client = Client::new(Limits::default(), 32 * 1024, 1 << 20);
    client.send(&window_update(0, 300_000));
    for stream in [1, 3, 5] {
        client.send(&request(stream, "GET", "/1000000"));
    }
    client.go(0);
    client.half_close();
    client.go(0);
    client.pass(2, ALL);
    let sent = [1, 3, 5].map(|stream| client.sum(h2::DATA, stream));
    assert_eq!(sent.iter().sum::<usize>(), 365_535, "{sent:?}");
    assert_eq!(client.ends().len(), 3, "{:?}", client.ends());
}

/// Each client opens its window by a byte a second, which is less than the least rate.
#[test]
fn slow_streams_time_out_also_when_no_buffer_is_left() {
    let mut client = Client::new(few_buffers(), 256 * 1024, 0);
    let streams: Vec<u32> = (0..20).map(|n| 2 * n + 1).collect();
    for stream in &streams {
        client.send(&request(*stream, "GET", "/endless"));
    }
    client.go(ALL);
    while client.ends().len() < streams.len() {
        assert!(client.seconds() < 300, "{:?}", client.ends());
        for stream in &streams {
            client.send(&window_update(*stream, 1));
        }
        client.pass(1, ALL);
    }
}

#[test]
fn a_file_that_finds_no_buffer_is_sent_when_there_is_one() {
    let mut client = Client::new(few_buffers(), 256 * 1024, 0);
    client.send(&window_update(0, 1 << 20));
    for n in 0..20 {
        client.send(&request(2 * n + 1, "GET", "/endless"));
    }
    client.send(&request(41, "GET", "/file"));
    client.send(&window_update(41, 1 << 20));
    client.go(ALL);
    client.pass(200, ALL);
    let len = std::fs::metadata(FILE).expect("this file").len();
    assert_eq!(client.sum(h2::DATA, 41) as u64, len, "{:?}", client.ends());
}

/// The output is so full that frames are left where they are: one of them half in the server's buffer, and half in the
/// socket's.
#[test]
fn a_frame_that_the_server_does_not_take_is_not_late() {
    let limits = Limits { head_timeout: Duration::from_secs(5), ..Limits::default() };
    let mut client = Client::new(limits, 4096, 1 << 24);
    client.send(&window_update(0, 1 << 24));
    client.send(&request(1, "GET", "/1000000"));
    client.go(0);
    let ping = ping();
    client.send(&ping.repeat(2000));
    client.send(&ping[..5]);
    client.go(0);
    client.send(&ping[5..]);
    client.go(0);
    client.pass(10, 0);
    client.pass(5, ALL);
    let seen = (client.sum(h2::DATA, 1), client.count(h2::PING), client.count(h2::GOAWAY));
    assert_eq!(seen, (1_000_000, 2001, 0));
}

/// Uploads that the application has paused hold the window of the connection.
#[test]
fn an_upload_that_the_client_may_not_send_is_not_late() {
    let mut client = Client::new(Limits::default(), 256 * 1024, 1 << 20);
    client.go(ALL);
    let mut sent_by_all = 0;
    for stream in (0..16).map(|n| 2 * n + 1) {
        client.send(&request(stream, "POST", "/paused"));
        let mut sent = 0;
        loop {
            let own = 64 * 1024 + client.sum(h2::WINDOW_UPDATE, stream) - sent;
            let n = own.min(65_535 + client.sum(h2::WINDOW_UPDATE, 0) - sent_by_all).min(LARGEST);
            if n == 0 {
                break;
            }
            client.send(&frame(h2::DATA, 0, stream, &vec![b'x'; n]));
            client.go(ALL);
            (sent, sent_by_all) = (sent + n, sent_by_all + n);
        }
    }
    assert_eq!(65_535 + client.sum(h2::WINDOW_UPDATE, 0), sent_by_all, "the window is used up");
    client.send(&request(33, "POST", "/taken"));
    client.go(ALL);
    client.pass(50, ALL);
    assert!(client.ends().iter().all(|end| end.path != "/taken"), "{:?}", client.ends());
}

/// The client gets a ping behind a response, and cannot answer before it has received that.
#[test]
fn a_client_that_reads_slowly_is_not_silent() {
    let mut client = Client::new(Limits::default(), 4096, 65_535);
    client.send(&[request(1, "GET", "/60000"), request(3, "GET", "/waits")].concat());
    let mut answered = 0;
    while client.seconds() < 200 {
        client.pass(1, 400);
        if client.count(h2::PING) > answered {
            answered += 1;
            client.send(&frame(h2::PING, h2::ACK, 0, b"measures"));
        }
        assert!(client.ends().iter().all(|end| end.path == "/60000"), "{:?}", client.ends());
    }
    assert!(answered > 0);
    client.pass(100, ALL);
    assert_eq!(client.reasons(), [EndReason::Complete, EndReason::PeerClosed], "it is asked again");
}

/// It takes four times as many bytes as the least rate asks for, and opens the windows by halves, as most clients do.
#[test]
fn a_client_that_takes_a_response_slowly_gets_it() {
    let mut client = Client::new(Limits::default(), 4096, 65_535);
    client.send(&request(1, "GET", "/200000"));
    let mut opened = 0;
    while client.ends().is_empty() {
        assert!(client.seconds() < 250);
        client.pass(1, 1000);
        let taken = client.sum(h2::DATA, 1) - opened;
        if taken >= 32 * 1024 {
            opened += taken;
            client.send(&[window_update(0, taken as u32), window_update(1, taken as u32)].concat());
        }
    }
    assert_eq!(client.reasons(), [EndReason::Complete]);
    // One that takes nothing has the send timeout, and no more.
    let mut client = Client::new(Limits::default(), 4096, 65_535);
    client.send(&request(1, "GET", "/200000"));
    client.pass(25, 1000);
    client.pass(25, 0);
    assert_eq!(client.ends(), []);
    client.pass(20, 0);
    assert_eq!(client.reasons(), [EndReason::TimedOut(Timeout::Send)]);
}

/// Both sides have ended the streams, and the application is still at work.
#[test]
fn what_the_application_has_not_left_is_limited() {
    let mut client = Client::new(Limits { streams: 4, ..Limits::default() }, 32 * 1024, 65_535);
    for n in 0..50 {
        client.send(&request(2 * n + 1, "CONNECT", "/leaving"));
        client.go(ALL);
    }
    let mut in_progress = 0;
    for (_, slot) in &client.engine.slots {
        if let Phase::Streams(streams) = &slot.phase {
            streams.each(&mut |_| in_progress += 1);
        }
    }
    assert_eq!((in_progress, client.count(h2::RST_STREAM)), (8, 42));
}

/// HTTP/1.1 uploads that the application has paused keep all buffers. The connection and its stream both have something
/// to read then.
#[test]
fn a_stream_that_gets_no_buffer_waits_for_one() {
    let mut client = Client::new(Limits { buffers: 4 * LENT, ..Limits::default() }, 32 * 1024, 65_535);
    client.send(&request(1, "GET", "/waits"));
    client.go(ALL);
    let uploads = [(); 4].map(|()| {
        let mut upload = connect(&client.engine, 1024);
        let head = b"POST /paused HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
        assert_eq!(upload.0.write(&[&head[..], &[b'x'; LENT]].concat()), head.len() + LENT);
        client.go(ALL);
        upload
    });
    assert_eq!(client.engine.core.pool.lent(), 4);
    let ticket = client.tickets.lock().expect("whole").pop().expect("suspended");
    client.send(&ping());
    ticket.waker().wake();
    client.go(ALL);
    assert!(client.engine.core.starved.len() < 10);
    drop(ticket.respond(Response::text("late")));
    client.go(ALL);
    drop(uploads);
    client.go(ALL);
    assert_eq!(client.sum(h2::DATA, 1), 4);
}
