//! permessage-deflate: negotiation, and compatibility with zlib itself.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use uncork::{
    Action, Request,
    ws::{self, CloseCause, Config, Deflate},
};

use crate::{
    peer::{BINARY, Echo, PLAIN, Peer, TEXT},
    world::{Host, Reports, bytes, report_channel},
};

/// A compressed text message of one frame.
const DEFLATED: u8 = TEXT | 0x40;
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

fn deflating(deflate: Deflate, config: Config) -> (Host, Reports<ws::Closed>) {
    let (report, closed) = report_channel();
    let host = PLAIN.serve(move |req: &mut Request<'_>| -> Action {
        match ws::check(req) {
            Ok(accept) => {
                let accept = accept.deflate(deflate).config(config.clone());
                accept.switch(Echo { sender: None, report: report.clone() }).0.into()
            }
            Err(refusal) => refusal.into(),
        }
    });
    (host, closed)
}

fn offer(host: &Host, offer: &str) -> (Peer, Option<String>) {
    let (peer, response) = Peer::open_with(host, &[&format!("Sec-WebSocket-Extensions: {offer}")]);
    (peer, response.is(101).get("sec-websocket-extensions").map(str::to_owned))
}

#[test]
fn all_four_parameters_are_negotiated() {
    const NO: &str = "; server_no_context_takeover; client_no_context_takeover";
    let keep = Deflate::new().keep_own_context(true).keep_peer_context(true);
    let small = keep.own_window(10).peer_window(11);
    #[rustfmt::skip]
    let rows: &[(Deflate, &str, Option<&str>)] = &[
        (keep, "permessage-deflate",                                                    Some("")),
        (keep, "Permessage-Deflate",                                                    Some("")),
        (Deflate::new(), "permessage-deflate",                                          Some(NO)),
        (keep, "permessage-deflate; server_no_context_takeover",                        Some("; server_no_context_takeover")),
        (keep, "permessage-deflate; client_no_context_takeover",                        Some("; client_no_context_takeover")),
        (keep, "permessage-deflate; client_max_window_bits",                            Some("")),
        (small, "permessage-deflate; client_max_window_bits",                           Some("; client_max_window_bits=11")),
        (small, "permessage-deflate; client_max_window_bits=10",                        Some("; client_max_window_bits=10")),
        (small, "permessage-deflate; client_max_window_bits=\"15\"",                    Some("; client_max_window_bits=11")),
        (small, "permessage-deflate",                                                   Some("")),
        (keep, "permessage-deflate; server_max_window_bits=9",                          Some("; server_max_window_bits=9")),
        (small, "permessage-deflate; server_max_window_bits=12",                        Some("; server_max_window_bits=10")),
        (keep, "permessage-deflate; server_max_window_bits=8",                          Some("; server_max_window_bits=8")),
        // An unknown offer is declined, and the next is used.
        (keep, "permessage-deflate; server_max_window_bits",                            None),
        (keep, "permessage-deflate; server_max_window_bits=16",                         None),
        (keep, "permessage-deflate; server_max_window_bits=7",                          None),
        (keep, "permessage-deflate; server_max_window_bits=09",                         None),
        (keep, "permessage-deflate; client_max_window_bits=0",                          None),
        (keep, "permessage-deflate; server_no_context_takeover=1",                      None),
        (keep, "permessage-deflate; client_max_window_bits; client_max_window_bits",    None),
        (keep, "permessage-deflate; something_else",                                    None),
        (keep, "x-webkit-deflate-frame",                                                None),
        (keep, "permessage-deflate; x, permessage-deflate; server_max_window_bits=10, permessage-deflate",
               Some("; server_max_window_bits=10")),
    ];
    for (deflate, offered, agreed) in rows {
        let (host, _closed) = deflating(*deflate, Config::new());
        let (mut peer, response) = offer(&host, offered);
        assert_eq!(response, agreed.map(|params| format!("permessage-deflate{params}")), "{offered}");
        // Uncompressed messages are always accepted.
        peer.send(TEXT, "plain").expect(TEXT, "plain");
        peer.close();
    }
}

/// The client's side, by zlib itself.
struct Codec {
    deflate: Compress,
    inflate: Decompress,
    keep: bool,
}

impl Codec {
    fn new(bits: u8, keep: bool) -> Self {
        Self {
            deflate: Compress::new_with_window_bits(Compression::default(), false, bits),
            inflate: Decompress::new_with_window_bits(false, bits),
            keep,
        }
    }

    fn deflate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() * 2 + 100);
        self.deflate.compress_vec(bytes, &mut out, FlushCompress::Sync).expect("deflated");
        assert_eq!(out.split_off(out.len() - 4), TAIL);
        if !self.keep {
            self.deflate.reset();
        }
        out
    }

    fn inflate(&mut self, bytes: &[u8], size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(size + 100);
        let whole = [bytes, &TAIL].concat();
        self.inflate.decompress_vec(&whole, &mut out, FlushDecompress::Sync).expect("inflated");
        if !self.keep {
            self.inflate.reset(false);
        }
        out
    }
}

#[test]
fn messages_are_compressed_both_ways() {
    for (keep, bits) in [(true, 15), (false, 15), (true, 9), (false, 12)] {
        let deflate = Deflate::new().keep_own_context(keep).keep_peer_context(keep).own_window(bits).peer_window(bits);
        let (host, closed) = deflating(deflate, Config::new());
        let window = format!("server_max_window_bits={bits}; client_max_window_bits={bits}");
        let (mut peer, response) = offer(&host, &format!("permessage-deflate; {window}"));
        assert!(response.is_some_and(|response| response.contains("no_context") != keep));
        let mut codec = Codec::new(bits, keep);
        let mut sizes = Vec::new();
        for n in [100, 100, 5000, 100, 300_000, 100] {
            let text: String = (0..n).map(|i| char::from(b'a' + (i * i / 7 % 26) as u8)).collect();
            peer.send(DEFLATED, codec.deflate(text.as_bytes()));
            let (first, payload) = peer.next();
            assert_eq!((first, payload.len() < n), (DEFLATED, true));
            sizes.push(payload.len());
            assert!(codec.inflate(&payload, n) == text.as_bytes(), "{n} bytes, context: {keep}, window: {bits}");
        }
        assert_eq!(sizes[1] < sizes[0] / 2, keep, "{sizes:?}");
        // Short messages are not compressed.
        peer.send(DEFLATED, codec.deflate(b"short")).expect(TEXT, "short");
        peer.close();
        assert_eq!(closed.next().cause, CloseCause::PeerClosed);
    }
}

#[test]
fn a_window_without_zlib_support_is_accepted_and_not_used() {
    let (host, _closed) = deflating(Deflate::new(), Config::new());
    let (mut peer, response) = offer(&host, "permessage-deflate; server_max_window_bits=8");
    assert!(response.is_some_and(|response| response.ends_with("server_max_window_bits=8")));
    peer.send(TEXT, "x".repeat(1000)).expect(TEXT, "x".repeat(1000));
    peer.close();
}

/// A peer whose zlib ends each message with a final block (RFC 7692 §7.2.3.4), with and without a block after it.
#[test]
fn a_final_block_ends_a_message_and_the_next_one_is_read() {
    for keep in [true, false] {
        let deflate = Deflate::new().keep_own_context(keep).keep_peer_context(keep).at_least(1 << 20);
        let (host, _closed) = deflating(deflate, Config::new());
        let (mut peer, _) = offer(&host, "permessage-deflate");
        // The output of Python's zlib.
        let hello = b"\xf3\x48\xcd\xc9\xc9\x07\x00";
        peer.send(DEFLATED, hello).expect(TEXT, "Hello").send(DEFLATED, hello).expect(TEXT, "Hello");
        let mut codec = Compress::new_with_window_bits(Compression::default(), false, 15);
        for n in [1, 10, 300, 70_000, 5] {
            for behind in [&b""[..], b"\x00"] {
                let text: String = (0..n).map(|i| char::from(b'a' + (i * i / 7 % 26) as u8)).collect();
                let mut out = Vec::with_capacity(n * 2 + 100);
                codec.compress_vec(text.as_bytes(), &mut out, FlushCompress::Finish).expect("deflated");
                codec.reset();
                out.extend_from_slice(behind);
                peer.send(DEFLATED, out).expect(TEXT, text);
            }
        }
        // Control frames between them, as usual.
        peer.send(DEFLATED, Codec::new(15, keep).deflate(b"flushed")).expect(TEXT, "flushed");
        peer.send(DEFLATED, hello).expect(TEXT, "Hello");
        peer.close();
    }
}

#[test]
fn a_bomb_is_rejected() {
    let (host, closed) = deflating(Deflate::new(), Config::new().message(100_000));
    let (mut peer, _) = offer(&host, "permessage-deflate");
    let bomb = Codec::new(15, true).deflate(&vec![0; 10 << 20]);
    assert!(bomb.len() < 11_000);
    peer.send(BINARY | 0x40, bomb).closed(1009, "message too big");
    assert_eq!(closed.next().cause, CloseCause::Rejected { code: 1009, rule: "message too big" });
}

#[test]
fn invalid_deflate_is_rejected() {
    let (host, _closed) = deflating(Deflate::new(), Config::new());
    let (mut peer, _) = offer(&host, "permessage-deflate");
    peer.send(BINARY | 0x40, b"\xff\xff\xff").closed(1007, "compressed data that is corrupt");
    let (mut peer, _) = offer(&host, "permessage-deflate");
    peer.send(TEXT | 0x40, Codec::new(15, true).deflate(b"\xff")).closed(1007, "text that is not UTF-8");
    // Without the extension a compressed frame is an error.
    let mut peer = Peer::open(&host);
    peer.send(TEXT | 0x40, "x").closed(1002, "reserved bits must be 0");
}

/// A shared frame is sent uncompressed: compression depends on the connection.
#[test]
fn shared_frames_go_between_compressed_messages() {
    let (report, senders) = report_channel();
    let host = PLAIN.serve(move |req: &mut Request<'_>| -> Action {
        let Ok(accept) = ws::check(req) else { return Action::Abort };
        let deflate = Deflate::new().keep_own_context(true);
        let (switch, sender) = accept.deflate(deflate).switch(|_: ws::Message<'_>, _| {});
        report.send(sender).expect("a receiver");
        switch.into()
    });
    let (mut peer, _) = offer(&host, "permessage-deflate");
    let (sender, mut codec) = (senders.next(), Codec::new(15, true));
    let text = "the same again, and the same again, and then the same again; ".repeat(3);
    for _ in 0..3 {
        sender.text(&text).expect("room");
        sender.send(&ws::Frame::text(&text)).expect("room");
        let (first, payload) = peer.next();
        assert_eq!((first, codec.inflate(&payload, 1000)), (DEFLATED, text.clone().into_bytes()));
        peer.expect(TEXT, &text);
    }
    let large = String::from_utf8(bytes(100_000).iter().map(|b| b % 64 + 32).collect()).expect("text");
    sender.text(&large).expect("room");
    let (first, payload) = peer.next();
    assert!(first == DEFLATED && codec.inflate(&payload, 100_000) == large.as_bytes());
    peer.close();
}
