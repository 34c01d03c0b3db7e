//! What attacks cost: the processor time of the loop for each byte that the attacker sends, against that of honest
//! requests. Both are measured in this run, in turns; only their ratio counts.
//!
//! ```text
//!   frames of an attack ──▶ a socket ──▶ turn() ── time of this thread ──▶ per byte ─┐
//!   frames of requests  ──▶ a socket ──▶ turn() ── time of this thread ──▶ per byte ─┴─▶ ratio
//! ```
//! An honest request has 14 bytes, as those of h2load: requests with more fields cost less for a byte.
//! When the server ends the connection, the attacker makes a new one, which is part of the cost.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use uncork::{
    Action, Consumed, ExternalServer, Headers, Limits, Produced, Request, Response, Server, Ticket, Tx, Upload,
};

use crate::{
    peer::{
        ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY,
        SETTINGS, WHOLE, frame, get, head, integer, literal, post, reset, settings, window_update,
    },
    release::upgrade,
};

/// An attack costs at most 1.2 times as much as honest requests of as many bytes.
const MOST: f64 = 1.2;

/// Bytes of a measurement.
const BYTES: usize = 40_000;

/// Honest requests at the same time. The server allows 100.
const USUAL_BATCH: usize = 50;

/// Makes the frames of an attack: what it sends first, and the frames number `n`.
struct Attack {
    what: &'static str,
    own_settings: &'static [(u16, u32)],
    /// The client acknowledges the server's SETTINGS.
    acks: bool,
    first: Vec<u8>,
    next: fn(u32) -> Vec<u8>,
}

fn attack(what: &'static str, first: impl Into<Vec<u8>>, next: fn(u32) -> Vec<u8>) -> Attack {
    Attack { what, own_settings: &[], acks: true, first: first.into(), next }
}

/// Takes a body, slowly or at once.
struct Taking;

impl Upload for Taking {
    fn data(&mut self, _: &[u8]) -> Consumed {
        Consumed::All
    }

    fn end(self: Box<Self>, _: &Headers) -> Action {
        Response::text("ok").into()
    }
}

static LARGE: [u8; 1 << 20] = [b'x'; 1 << 20];

struct Meter {
    server: ExternalServer<'static>,
    addr: SocketAddr,
}

/// Returns the processor time of this thread.
#[allow(unsafe_code)]
fn time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live local, which the call writes.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) }, 0);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

impl Meter {
    fn new() -> Self {
        let waiting = Arc::new(Mutex::new(Vec::<Ticket>::new()));
        let handler = move |req: &mut Request<'_>| -> Action {
            match req.path() {
                "/wait" => {
                    let mut waiting = waiting.lock().expect("no panic");
                    waiting.retain(|ticket| !ticket.is_closed());
                    waiting.push(req.ticket());
                    Action::Suspend
                }
                "/upload" => Action::Receive(Box::new(Taking)),
                "/stream" => Response::stream(|out: &mut Tx<'_>| {
                    out.write(&LARGE[..1000]);
                    Produced::More
                })
                .into(),
                // Not of the attack: no memory is filled for it.
                "/large" => Response::text(&LARGE[..]).into(),
                _ => Response::text("ok").into(),
            }
        };
        let limits = Limits { linger_timeout: Duration::from_millis(50), ..Limits::default() };
        let server = Server::bind("127.0.0.1:0").expect("bound").limits(limits).external(handler).expect("started");
        Self { addr: server.local_addr().expect("an address"), server }
    }

    /// Lets the loop turn, and returns its time.
    fn turn(&mut self) -> Duration {
        let before = time();
        let _ = self.server.turn().expect("turned");
        time() - before
    }

    /// Returns nanoseconds for each byte, and how often the server has ended the connection. `batch`: how often the
    /// client calls [`Attack::next`] before it lets the server work.
    fn measure(&mut self, attack: &Attack, batch: usize) -> (f64, usize) {
        let (mut sent, mut spent, mut ends) = (0, Duration::ZERO, 0);
        while sent < BYTES {
            let mut tcp = TcpStream::connect(self.addr).expect("connected");
            tcp.set_nonblocking(true).expect("set");
            let ack = if attack.acks { frame(SETTINGS, ACK, 0, []) } else { Vec::new() };
            let begin = [PREFACE, &settings(attack.own_settings), &ack, &window_update(0, 1 << 30), &attack.first];
            let (mut out, mut n, mut open) = (begin.concat(), 0, true);
            let mut block = vec![0; 256 * 1024];
            while open && sent < BYTES {
                for _ in 0..batch {
                    out.extend((attack.next)(n));
                    n += 1;
                    if out.len() > 16 * 1024 {
                        break;
                    }
                }
                match tcp.write(&out) {
                    Ok(written) => {
                        out.drain(..written);
                        sent += written;
                    }
                    Err(error) => open = error.kind() == ErrorKind::WouldBlock,
                }
                for _ in 0..4 {
                    spent += self.turn();
                }
                loop {
                    match tcp.read(&mut block) {
                        Ok(0) => open = false,
                        Ok(_) => continue,
                        Err(error) => open &= error.kind() == ErrorKind::WouldBlock,
                    }
                    break;
                }
            }
            ends += usize::from(!open);
            drop(tcp);
            for _ in 0..4 {
                spent += self.turn();
            }
        }
        (spent.as_nanos() as f64 / sent as f64, ends)
    }
}

/// A request as that of h2load: five bytes, three of the static table and two of the dynamic one.
fn honest(n: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, 2 * n + 3, [0x82, 0x86, 0x84, 0xbf, 0xbe])
}

/// The request that fills the dynamic table for [`honest`].
fn before_honest() -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, [&[0x82, 0x86, 0x84, 0x41, 9][..], b"localhost", &[0x7a, 2], b"h2"].concat())
}

/// The head of `GET /` in the static table, with an authority.
const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x01, 1, b'a'];

/// Returns the field that is added to the dynamic table.
fn added(name: &str, value: &[u8]) -> Vec<u8> {
    let mut block = vec![0x40, name.len() as u8];
    block.extend(name.as_bytes());
    integer(&mut block, 0, 7, value.len());
    block.extend(value);
    block
}

/// Returns the attacks by requests that the client, or the server, resets.
fn resets() -> Vec<Attack> {
    vec![
        attack("rapid reset of requests", before_honest(), |n| [honest(n), reset(2 * n + 3, CANCEL)].concat()),
        attack("rapid reset of suspended requests", [], |n| {
            [get(2 * n + 1, "/wait"), reset(2 * n + 1, CANCEL)].concat()
        }),
        attack("rapid reset of uploads", [], |n| {
            [post(2 * n + 1, "/upload", &[]), frame(DATA, 0, 2 * n + 1, b"x"), reset(2 * n + 1, CANCEL)].concat()
        }),
        attack("rapid reset of upgrades", [], |n| [upgrade(2 * n + 1), reset(2 * n + 1, CANCEL)].concat()),
        attack("MadeYouReset by a window that overflows", [], |n| {
            [get(2 * n + 1, "/wait"), window_update(2 * n + 1, i32::MAX as u32)].concat()
        }),
        attack("MadeYouReset by an increment of 0", [], |n| {
            [get(2 * n + 1, "/wait"), window_update(2 * n + 1, 0)].concat()
        }),
        attack("MadeYouReset by a priority", [], |n| {
            let on = (2 * n + 1).to_be_bytes();
            [get(2 * n + 1, "/wait"), frame(PRIORITY, 0, 2 * n + 1, [on[0], on[1], on[2], on[3], 9])].concat()
        }),
        attack("MadeYouReset by DATA above Content-Length", [], |n| {
            [post(2 * n + 1, "/wait", &[("content-length", "1")]), frame(DATA, 0, 2 * n + 1, b"xx")].concat()
        }),
        attack("MadeYouReset by HEADERS again", [], |n| {
            [post(2 * n + 1, "/wait", &[]), frame(HEADERS, END_HEADERS, 2 * n + 1, literal("x", "y"))].concat()
        }),
        attack("rapid reset of uploads that expect 100", [], |n| {
            [post(2 * n + 1, "/upload", &[("expect", "100-continue")]), reset(2 * n + 1, CANCEL)].concat()
        }),
        Attack {
            own_settings: &[(4, 0)],
            ..attack("rapid reset of responses that wait for the window", [], |n| {
                [get(2 * n + 1, "/large"), reset(2 * n + 1, CANCEL)].concat()
            })
        },
        attack("rapid reset of streamed responses", [], |n| {
            [get(2 * n + 1, "/stream"), reset(2 * n + 1, CANCEL)].concat()
        }),
        attack("malformed requests", [], |n| frame(HEADERS, WHOLE, 2 * n + 1, [0x82, 0x86, 0x84])),
        attack("requests without :path", [], |n| frame(HEADERS, WHOLE, 2 * n + 1, [0x82, 0x86])),
        attack(
            "more requests than are allowed",
            (0..100).flat_map(|n| get(2 * n + 1, "/wait")).collect::<Vec<_>>(),
            |n| frame(HEADERS, WHOLE, 2 * n + 201, GET),
        ),
    ]
}

/// Returns the floods of frames.
fn floods() -> Vec<Attack> {
    let open = || post(1, "/upload", &[]);
    vec![
        attack("PING", [], |_| frame(PING, 0, 0, [0; 8])),
        attack("PING with ACK", [], |_| frame(PING, ACK, 0, [0; 8])),
        attack("empty SETTINGS", [], |_| settings(&[])),
        attack("SETTINGS", [], |n| settings(&[(3, n), (4, 65_535 + n)])),
        attack(
            "SETTINGS that change the windows of 100 streams",
            (0..100).flat_map(|n| get(2 * n + 1, "/large")).collect::<Vec<_>>(),
            |n| settings(&[(4, n & 1)]),
        ),
        attack("SETTINGS that change the table", before_honest(), |n| settings(&[(1, (n & 1) * 4096)])),
        attack("PRIORITY", [], |n| frame(PRIORITY, 0, 2 * n + 1, [0, 0, 0, 0, 9])),
        attack("WINDOW_UPDATE", [], |_| window_update(0, 1)),
        attack("WINDOW_UPDATE on a closed stream", get(1, "/"), |_| window_update(1, 1)),
        attack("RST_STREAM on a closed stream", get(1, "/"), |_| reset(1, CANCEL)),
        attack("GOAWAY", [], |_| frame(GOAWAY, 0, 0, [0; 8])),
        attack("unknown frames", [], |_| frame(0xfa, 0, 0, [])),
        attack("empty DATA", open(), |_| frame(DATA, 0, 1, [])),
        attack("DATA of one byte", open(), |_| frame(DATA, 0, 1, b"x")),
        attack("DATA that is only padding", open(), |_| frame(DATA, PADDED, 1, [0])),
        attack("DATA on a stream that was reset", [open(), reset(1, CANCEL)].concat(), |_| frame(DATA, 0, 1, b"x")),
        attack(
            "DATA of one byte on 100 streams",
            (0..100).flat_map(|n| post(2 * n + 1, "/upload", &[])).collect::<Vec<_>>(),
            |n| frame(DATA, 0, 2 * (n % 100) + 1, b"x"),
        ),
        attack(
            "PING with 100 requests in progress",
            (0..100).flat_map(|n| get(2 * n + 1, "/wait")).collect::<Vec<_>>(),
            |_| frame(PING, 0, 0, [0; 8]),
        ),
        attack("empty DATA with its own stream", [], |n| {
            [post(2 * n + 1, "/upload", &[]), frame(DATA, END_STREAM, 2 * n + 1, [])].concat()
        }),
        Attack {
            own_settings: &[(4, 0)],
            ..attack(
                "windows that grow by one byte",
                (0..100).flat_map(|n| get(2 * n + 1, "/large")).collect::<Vec<_>>(),
                |n| window_update(2 * (n % 100) + 1, 1),
            )
        },
    ]
}

/// Returns the attacks by header blocks.
fn blocks() -> Vec<Attack> {
    let begun = || frame(HEADERS, END_STREAM, 1, GET);
    let bomb = |name: &str| frame(HEADERS, WHOLE, 1, [&GET[..], &added(name, &[b'x'; 3900])].concat());
    vec![
        attack("empty CONTINUATION", begun(), |_| frame(CONTINUATION, 0, 1, [])),
        attack("CONTINUATION of one field", begun(), |_| frame(CONTINUATION, 0, 1, literal("x", "y"))),
        attack("CONTINUATION of a part of a field", frame(HEADERS, END_STREAM, 1, [0, 0x7f, 0xff, 0xff, 0x03]), |_| {
            frame(CONTINUATION, 0, 1, b"x")
        }),
        attack("large CONTINUATION", begun(), |_| frame(CONTINUATION, 0, 1, [0x84; 1 << 14])),
        attack("references to a large entry", bomb("x"), |n| {
            frame(HEADERS, WHOLE, 2 * n + 3, [&GET[..], &[0xbe; 4000]].concat())
        }),
        attack("crumbs that are a large entry", bomb("cookie"), |n| {
            frame(HEADERS, WHOLE, 2 * n + 3, [&GET[..], &[0xbe; 3]].concat())
        }),
        Attack {
            acks: false,
            ..attack("references to a large entry, without ACK", bomb("x"), |n| {
                frame(HEADERS, WHOLE, 2 * n + 3, [&GET[..], &[0xbe; 4000]].concat())
            })
        },
        Attack {
            acks: false,
            ..attack("crumbs that are a large entry, without ACK", bomb("cookie"), |n| {
                frame(HEADERS, WHOLE, 2 * n + 3, [&GET[..], &[0xbe; 4000]].concat())
            })
        },
        attack("references to a small entry", frame(HEADERS, WHOLE, 1, [&GET[..], &added("x", b"y")].concat()), |n| {
            frame(HEADERS, WHOLE, 2 * n + 3, [&GET[..], &[0xbe; 400]].concat())
        }),
        Attack {
            acks: false,
            ..attack(
                "references to a small entry, without ACK",
                frame(HEADERS, WHOLE, 1, [&GET[..], &added("x", b"y")].concat()),
                |n| frame(HEADERS, WHOLE, 2 * n + 3, [&GET[..], &[0xbe; 16_000]].concat()),
            )
        },
        attack("entries that displace each other", [], |n| {
            frame(HEADERS, WHOLE, 2 * n + 1, [&GET[..], &added("a", &[b'x'; 4000])].concat())
        }),
        attack("small entries that displace each other", [], |n| {
            let small: Vec<u8> = (0..60).flat_map(|i| [0x40, 1, b'a' + i % 26, 0]).collect();
            frame(HEADERS, WHOLE, 2 * n + 1, [&GET[..], &small].concat())
        }),
        attack("fields with the name of a large entry", named(&[b'n'; 3900]), |n| {
            let fields = [0x0f, 62 - 15, 0].repeat(5000);
            frame(HEADERS, WHOLE, 2 * n + 3, [&GET[..], &fields].concat())
        }),
        attack("entries with the name of a large entry", named(&[b'n'; 3900]), |n| {
            frame(HEADERS, WHOLE, 2 * n + 3, [&GET[..], &[0x7e, 0].repeat(8000)].concat())
        }),
        attack("a table that is emptied", [], |n| {
            let sizes = [0x20, 0x3f, 0xe1, 0x1f].repeat(100);
            frame(HEADERS, WHOLE, 2 * n + 1, [&sizes, &GET[..]].concat())
        }),
        attack("Huffman's code", [], |n| {
            // 8000 digits of five bits.
            frame(HEADERS, WHOLE, 2 * n + 1, [&GET[..], &[0, 1, b'x', 0xff, 0x89, 0x26], &[0; 5000]].concat())
        }),
        attack("Huffman's code, long symbols", [], |n| {
            let symbols = [0xff, 0xff, 0xea].repeat(1650);
            frame(HEADERS, WHOLE, 2 * n + 1, [&GET[..], &[0, 1, b'x', 0xff, 0xd9, 0x25], &symbols].concat())
        }),
        attack("crumbs", [], |n| {
            let crumbs: Vec<u8> = (0..90u8).flat_map(|i| [0x0f, 0x11, 1, b'a' + i % 26]).collect();
            frame(HEADERS, WHOLE, 2 * n + 1, [&GET[..], &crumbs].concat())
        }),
        attack("many fields", [], |n| {
            let fields: Vec<u8> = (0..99u8).flat_map(|i| [0, 2, b'a' + i % 26, b'a' + i / 26, 0]).collect();
            frame(HEADERS, WHOLE, 2 * n + 1, [&GET[..], &fields].concat())
        }),
        attack("heads that are too large", [], |n| {
            frame(HEADERS, WHOLE, 2 * n + 1, [head("GET", "/", &[]), literal("x", [b'y'; 16_100])].concat())
        }),
    ]
}

/// Returns a request that adds a field of that name to the dynamic table.
fn named(name: &[u8]) -> Vec<u8> {
    let mut block = GET.to_vec();
    block.push(0x40);
    for part in [name, b"y"] {
        integer(&mut block, 0, 7, part.len());
        block.extend(part);
    }
    frame(HEADERS, WHOLE, 1, block)
}

/// Measures each attack, in turn with honest requests, and compares the lowest costs of some rounds: noise only adds.
fn all_cost_little(attacks: Vec<Attack>) {
    // Few at a time stay below the limits of what is in progress; many share the costs of a turn.
    const BATCHES: [(usize, usize); 2] = [(10, 10), (usize::MAX, USUAL_BATCH)];
    let mut meter = Meter::new();
    let honest = attack("honest requests", before_honest(), honest);
    meter.measure(&honest, USUAL_BATCH);
    let mut wrong = Vec::new();
    for attack in attacks {
        let mut least = [(f64::MAX, f64::MAX, 0); 2];
        let mut worst = (f64::MAX, 0.0, 0);
        for _ in 0..4 {
            for (least, (batch, usual)) in least.iter_mut().zip(BATCHES) {
                let (own, ends) = meter.measure(&honest, usual);
                assert_eq!(ends, 0, "honest requests end a connection");
                let (cost, ends) = meter.measure(&attack, batch);
                *least = (least.0.min(cost), least.1.min(own), ends);
            }
            let [few, many] = least.map(|(cost, own, ends)| (cost / own, cost, ends));
            worst = if few.0 > many.0 { few } else { many };
            if worst.0 < 1.0 {
                break;
            }
        }
        let (ratio, cost, ends) = worst;
        println!("{ratio:6.2} × ({cost:6.1} ns a byte, {ends} connections ended): {}", attack.what);
        if ratio > MOST {
            wrong.push(format!("{}: {ratio:.2}", attack.what));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn resets_cost_no_more_than_requests() {
    all_cost_little(resets());
}

#[test]
fn floods_cost_no_more_than_requests() {
    all_cost_little(floods());
}

#[test]
fn header_blocks_cost_no_more_than_requests() {
    all_cost_little(blocks());
}
