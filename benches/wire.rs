//! The cost of a request between the two buffers. Run it with
//! `cargo bench -p uncork-benches --bench wire`. One figure alone says little; compare before and after.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uncork::{
    __fuzzing::OneConnection,
    h1::{
        BodyLength, HeadLimits, HeadScanner, Headers, ResponseHead,
        chunked::{BodyLimits, Decoder, Step},
        field_slots, parse_request,
        write::response_head,
    },
};

const SHORT: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n";

/// A browser's request.
const LONG: &[u8] = b"GET /articles/2024/overview.html?page=2 HTTP/1.1\r\n\
    Host: www.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.org/articles/2024/\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Connection: keep-alive\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Priority: u=0, i\r\n\r\n";

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("head");
    let limits = HeadLimits::default();
    for (name, head) in [("short", SHORT), ("long", LONG)] {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(format!("find/{name}"), |b| {
            b.iter(|| HeadScanner::default().find(black_box(head), &limits));
        });
        group.bench_function(format!("find_and_parse/{name}"), |b| {
            b.iter(|| {
                let bytes = black_box(head);
                let end = HeadScanner::default().find(bytes, &limits).ok().flatten().unwrap_or(0);
                let mut slots = field_slots();
                parse_request(&bytes[..end], &mut slots, &limits).is_ok()
            });
        });
    }
    // Must stay linear: each byte is read once.
    group.throughput(Throughput::Bytes(LONG.len() as u64));
    group.bench_function("find_byte_by_byte/long", |b| {
        b.iter(|| {
            let mut scan = HeadScanner::default();
            (1..=LONG.len()).filter(|n| matches!(scan.find(black_box(&LONG[..*n]), &limits), Ok(Some(_)))).count()
        });
    });
    group.finish();
}

fn chunks(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunked");
    let limits = BodyLimits::default();
    for size in [16usize, 1024, 16 * 1024] {
        let count = 64 * 1024 / size;
        let chunk = [format!("{size:x}\r\n").as_bytes(), &vec![b'x'; size], b"\r\n"].concat();
        let body = [&chunk.repeat(count)[..], b"0\r\n\r\n"].concat();
        group.throughput(Throughput::Bytes((size * count) as u64));
        group.bench_function(format!("decode/64KiB_in_{size}"), |b| {
            b.iter(|| {
                let (mut decoder, mut at, mut data) = (Decoder::new(), 0, 0);
                loop {
                    match decoder.step(black_box(&body[at..]), &limits) {
                        Ok(Step::Skip(n)) => at += n,
                        Ok(Step::Data(n)) => {
                            decoder.took(n);
                            (at, data) = (at + n, data + n);
                        }
                        Ok(Step::End(..) | Step::NeedMore) | Err(_) => return data,
                    }
                }
            });
        });
    }
    group.finish();
}

fn responses(c: &mut Criterion) {
    let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
    let mut fields = b"Content-Type: text/plain\r\n".to_vec();
    let mut out = Vec::with_capacity(4096);
    for name in ["short", "long"] {
        c.bench_function(&format!("response_head/{name}"), |b| {
            b.iter(|| {
                out.clear();
                let head = ResponseHead {
                    status: black_box(200),
                    fields: black_box(&fields),
                    length: BodyLength::Known(black_box(13)),
                    date,
                    connection: None,
                };
                response_head(&head, &mut out);
                out.len()
            });
        });
        fields.extend_from_slice(&b"X-Some-Header: with a value of some length\r\n".repeat(10));
    }
    c.bench_function("headers/two_appended", |b| {
        b.iter(|| {
            let mut headers = Headers::new();
            let first = headers.append("Content-Type", black_box("text/plain"));
            first.and_then(|()| headers.append("Vary", "Accept")).map(|()| headers)
        });
    });
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request_in_memory");
    let sixteen = SHORT.repeat(16);
    for (name, wire, count) in [("short", SHORT, 1), ("long", LONG, 1), ("pipelined_16", &sixteen[..], 16)] {
        let mut conn = OneConnection::default();
        group.throughput(Throughput::Elements(count));
        group.bench_function(name, |b| {
            b.iter(|| {
                let served = conn.serve(black_box(wire), b"Hello, world!", |sent| _ = black_box(sent));
                assert_eq!(served as u64, count);
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = wire;
    config = Criterion::default().sample_size(30);
    targets = heads, chunks, responses, requests
}
criterion_main!(wire);
