//! The cost of WebSocket frames between the two buffers. Run it with
//! `cargo bench -p uncork-benches --bench websocket`. One figure alone says little; compare before and after.

use std::{
    hint::black_box,
    time::{Instant, SystemTime},
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use uncork::{
    __fuzzing::{OneWebSocket, mask},
    Moment,
    ws::Frame,
};

const SIZES: [usize; 3] = [125, 1024, 16 * 1024];

/// Returns a client's frame, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(n @ 0..126) => frame.push(0x80 | n as u8),
        Ok(n) => {
            frame.push(0x80 | 126);
            frame.extend(n.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    let key = [0x12, 0x34, 0x56, 0x78];
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn masking(c: &mut Criterion) {
    let mut group = c.benchmark_group("mask");
    for size in SIZES {
        let mut bytes = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(size.to_string(), |b| b.iter(|| mask(black_box(&mut bytes), [1, 2, 3, 4], 1)));
    }
    group.finish();
}

/// Parse, unmask, check, deliver, echo: a session in memory.
#[expect(clippy::disallowed_methods, reason = "any moment will do: the session's clock stands still")]
fn echo(c: &mut Criterion) {
    let now = Moment { mono: Instant::now(), wall: SystemTime::now() };
    let text = |size| "κόσμε, plain ".repeat(size).chars().take(size).collect::<String>().into_bytes();
    let mut group = c.benchmark_group("echo_in_memory");
    for size in SIZES {
        for (kind, first, payload) in [("binary", 0x82, vec![7; size]), ("text", 0x81, text(size))] {
            let wire = frame(first, &payload);
            group.throughput(Throughput::Bytes(wire.len() as u64));
            let mut socket = OneWebSocket::new(now);
            group.bench_function(format!("{kind}/{size}"), |b| {
                b.iter(|| assert!(socket.feed(black_box(&wire)) > size));
            });
        }
    }
    let wire = frame(0x82, &[7; 125]).repeat(100);
    group.throughput(Throughput::Elements(100));
    let mut socket = OneWebSocket::new(now);
    group.bench_function("binary/125_in_hundreds", |b| b.iter(|| assert_eq!(socket.feed(black_box(&wire)), 12_700)));
    // Every fragment in two pieces: none of it can be delivered in place.
    let wire = [frame(0x02, &[7; 1000]), frame(0x80, &[7; 1000])].concat();
    group.throughput(Throughput::Bytes(wire.len() as u64));
    let mut socket = OneWebSocket::new(now);
    group.bench_function("binary/2000_in_fragments", |b| {
        b.iter(|| {
            let (a, rest) = wire.split_at(500);
            let (b, c) = rest.split_at(1000);
            [a, b, c].map(|piece| socket.feed(black_box(piece))).iter().sum::<usize>()
        });
    });
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for size in SIZES {
        let bytes = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("binary/{size}"), |b| {
            b.iter_batched(|| (), |()| Frame::binary(black_box(&bytes)), BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group! {
    name = websocket;
    config = Criterion::default().sample_size(30);
    targets = masking, echo, encode
}
criterion_main!(websocket);
