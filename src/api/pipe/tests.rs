use std::{
    fs::File,
    io::{self, Read},
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task,
};

use super::*;
use crate::{
    base::pipe_memory::{PipeMemory, SMALL},
    transport::kernel_pipe::{Ends, KernelPipe, KernelPipes},
};

/// Counts wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Panics when it is called.
struct Panicking;

impl task::Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("a waker of the application");
    }
}

fn make() -> io::Result<Ends> {
    let (read, write) = io::pipe()?;
    Ok(Ends { read, write })
}

#[test]
fn a_pipe_is_bounded() {
    let (mut inlet, mut outlet) = pipe(8);
    assert_eq!(inlet.write(b"hello, world"), 8);
    assert_eq!(inlet.write(b"more"), 0);
    assert_eq!(outlet.bytes(), b"hello, w");
    outlet.consume(8);
    assert_eq!(inlet.write(b"orld"), 4);
    assert_eq!((inlet.counters().written(), outlet.counters().read()), (12, 8));
}

#[test]
fn the_store_grows_with_small_writes() {
    let (mut inlet, mut outlet) = pipe(64 * 1024);
    let all: Vec<u8> = (0..60_000u32).map(|i| (i % 251) as u8).collect();
    let (mut written, mut capacity) = (0, 0);
    for piece in all.chunks(700) {
        let n = inlet.write(piece);
        written += n;
        if let Lent::Block(block) = outlet.lend_buf() {
            assert!(block.capacity() >= capacity && block.capacity() <= (2 * written).clamp(4096, 64 * 1024));
            capacity = block.capacity();
            outlet.give_back(Block::Buf(block), 0);
        }
        if n < piece.len() {
            break;
        }
    }
    assert!(written >= 32 * 1024, "at least half of the room: {written}");
    assert_eq!(outlet.bytes(), &all[..written]);
}

#[test]
fn a_waker_that_panics_ends_neither_end() {
    let (mut inlet, mut outlet) = pipe(8);
    inlet.on_room(Arc::new(Panicking));
    outlet.on_data(Arc::new(Panicking));
    assert!(outlet.bytes().is_empty(), "the reader waits");
    assert_eq!(inlet.write(b"hello, world"), 8);
    assert_eq!(inlet.write(b"orld"), 0, "the writer waits");
    assert_eq!(outlet.bytes(), b"hello, w");
    outlet.consume(8);
    assert_eq!(inlet.write(b"orld"), 4);
    inlet.finish(None);
    assert_eq!(outlet.bytes(), b"orld");
    outlet.consume(4);
    assert!(outlet.is_finished());
}

#[test]
fn a_dropped_writer_truncates_the_pipe_after_the_data() {
    let (mut inlet, mut outlet) = pipe(8);
    inlet.write(b"part");
    drop(inlet);
    assert_eq!(outlet.bytes(), b"part");
    outlet.consume(4);
    assert!(matches!(outlet.lend(), Lent::Over(PipeEnd::Truncated)));
    assert!(outlet.is_truncated() && !outlet.is_finished());
}

#[test]
fn a_dropped_reader_is_reported() {
    let (mut inlet, outlet) = pipe(8);
    drop(outlet);
    assert!(inlet.is_closed());
    assert_eq!(inlet.write(b"x"), 0);
}

#[test]
fn bytes_keep_their_order_across_threads() {
    let (mut inlet, mut outlet) = pipe(100);
    let writer = std::thread::spawn(move || {
        let (all, mut sent) = ((0..50_000u32).map(|i| i as u8).collect::<Vec<_>>(), 0);
        while sent < all.len() {
            sent += inlet.write(&all[sent..(sent + 77).min(all.len())]);
            std::thread::yield_now();
        }
        inlet.finish(None);
    });
    let mut received = Vec::new();
    while !outlet.is_finished() {
        let n = {
            let bytes = outlet.bytes();
            received.extend_from_slice(bytes);
            bytes.len()
        };
        outlet.consume(n);
        std::thread::yield_now();
    }
    writer.join().expect("no panic");
    assert_eq!(received.len(), 50_000);
    assert!(received.iter().enumerate().all(|(i, &b)| b == i as u8));
}

#[test]
fn a_lent_socket_gets_the_allowed_bytes_and_none_after_it_was_taken_back() {
    let (mut inlet, mut outlet) = pipe(100);
    let wakes = Arc::new(Wakes::default());
    outlet.set_splices(true);
    let woken = || wakes.0.load(Ordering::Relaxed);
    let mut block = Arc::new(KernelPipes::new(1)).take(make).expect("one");
    let all = |_: BorrowedFd<'_>, block: &mut KernelPipe, max: usize| {
        block.taken_out(max);
        Ok(max)
    };
    let half = |socket: BorrowedFd<'_>, block: &mut KernelPipe, max: usize| all(socket, block, max / 2);
    let socket = || File::open("/dev/null").map(OwnedFd::from);

    outlet.open_bypass(10, || panic!("nothing was spliced before"));
    block.put_in(20);
    inlet.count(20);
    inlet.pass_on(&mut block, |_, _, _| panic!("nothing was lent"));
    inlet.give_back(Block::Kernel(block));
    let Lent::Block(Block::Kernel(mut block)) = outlet.lend() else { panic!("expected a kernel pipe") };
    outlet.on_data(wakes.clone());
    outlet.open_bypass(10, socket);
    inlet.pass_on(&mut block, half);
    assert_eq!((block.len(), outlet.counters().read(), woken()), (15, 5, 0));
    inlet.pass_on(&mut block, all);
    assert_eq!((block.len(), woken()), (10, 1), "all allowed bytes are sent: the reader must continue");
    inlet.pass_on(&mut block, all);
    assert_eq!((block.len(), outlet.shut_bypass(), outlet.shut_bypass()), (10, 10, 0));

    outlet.open_bypass(10, || panic!("the socket is lent already"));
    assert_eq!(outlet.shut_bypass(), 0);
    inlet.pass_on(&mut block, all);
    assert_eq!((block.len(), outlet.counters().read()), (10, 10));
    outlet.open_bypass(10, || panic!("the socket is lent already"));
    inlet.pass_on(&mut block, |_, _, _| Err(io::ErrorKind::ConnectionReset.into()));
    assert_eq!((block.len(), woken()), (10, 2), "the reader must see the error");
    assert_eq!(outlet.bypass_fault().map(|error| error.kind()), Some(io::ErrorKind::ConnectionReset));
    assert!(outlet.bypass_fault().is_none());
    outlet.open_bypass(10, || panic!("the socket is lent already"));
    drop(outlet);
    inlet.pass_on(&mut block, all);
    assert_eq!(block.len(), 10, "a dropped reader has taken its socket back");
}

#[test]
fn bytes_that_the_reader_takes_itself_are_not_counted_as_sent_by_the_writer() {
    let (mut inlet, mut outlet) = pipe(100);
    outlet.set_splices(true);
    let mut block = Arc::new(KernelPipes::new(1)).take(make).expect("one");
    block.put_in(20);
    inlet.count(20);
    inlet.give_back(Block::Kernel(block));
    let Lent::Block(Block::Kernel(mut block)) = outlet.lend() else { panic!("expected a kernel pipe") };
    block.taken_out(3);
    outlet.give_back(Block::Kernel(block), 3);
    assert_eq!((outlet.shut_bypass(), outlet.counters().read()), (0, 3));
}

/// Reads everything that is in a pipe. Returns the number of bytes.
fn take_all(outlet: &mut PipeOut) -> usize {
    let mut taken = 0;
    loop {
        let n = outlet.bytes().len();
        if n == 0 {
            return taken;
        }
        outlet.consume(n);
        taken += n;
    }
}

#[test]
fn blocks_are_counted_until_they_are_dropped_on_any_thread() {
    static MEMORY: PipeMemory = PipeMemory::new(1 << 20);
    let both = || pipe_with_share(256 * 1024, Share::none(&MEMORY));
    let (mut inlet, mut outlet) = both();
    assert_eq!(MEMORY.held(), 0, "an empty pipe has no block");
    let inlet = std::thread::spawn(move || {
        assert_eq!(inlet.write(&[7; 100_000]), 100_000);
        inlet
    });
    let inlet = inlet.join().expect("no panic");
    assert_eq!(MEMORY.held(), 128 * 1024);
    std::thread::spawn(move || assert_eq!(take_all(&mut outlet), 100_000)).join().expect("no panic");
    drop(inlet);
    assert_eq!(MEMORY.held(), 0);

    // Full, and with either end dropped first; the reader while it holds the block.
    for writer_first in [true, false] {
        let (mut inlet, mut outlet) = both();
        assert_eq!(inlet.write(&[7; 300_000]), 256 * 1024);
        assert_eq!(outlet.bytes().len(), 256 * 1024);
        assert_eq!(MEMORY.held(), 256 * 1024);
        if writer_first {
            drop(inlet);
            assert_eq!(MEMORY.held(), 256 * 1024);
            drop(outlet);
        } else {
            drop(outlet);
            drop(inlet);
        }
        assert_eq!(MEMORY.held(), 0);
    }
}

#[test]
fn pipes_beyond_the_limit_hold_little_and_lose_nothing() {
    static MEMORY: PipeMemory = PipeMemory::new(2 << 20);
    let mut pipes: Vec<_> = (0..20).map(|_| pipe_with_share(256 * 1024, Share::none(&MEMORY))).collect();
    let written: Vec<usize> = pipes.iter_mut().map(|(inlet, _)| inlet.write(&[7; 300_000])).collect();
    let kib: Vec<usize> = written.iter().map(|written| written >> 10).collect();
    assert_eq!(kib[..5], [256; 5]);
    assert_eq!(kib[5..14], [128, 128, 128, 64, 64, 64, 32, 32, 32], "the less memory is free, the smaller the block");
    assert_eq!(written[14..], [SMALL; 6]);
    assert_eq!(MEMORY.held(), 1952 << 10);
    for ((_, outlet), written) in pipes.iter_mut().zip(&written) {
        assert_eq!(take_all(outlet), *written);
    }
    assert_eq!(MEMORY.held(), 1440 << 10, "the first two gave up their stores, as memory was scarce");
    let (inlet, outlet) = &mut pipes[19];
    assert_eq!(inlet.write(&[7; 300_000]), 128 * 1024, "there is memory for a larger block again");
    assert_eq!(take_all(outlet), 128 * 1024);
    drop(pipes);
    assert_eq!(MEMORY.held(), 0);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a missed wake-up shows in the time")]
fn nothing_is_lost_or_stuck_without_any_memory() {
    static MEMORY: PipeMemory = PipeMemory::new(0);
    let body: Arc<[u8]> = (0..1u32 << 20).map(|i| (i % 251) as u8).collect();
    let all = body.clone();
    let (mut inlet, mut outlet) = pipe_with_share(256 * 1024, Share::none(&MEMORY));
    let writer = std::thread::spawn(move || {
        let (thread, mut sent) = (std::thread::current(), 0);
        inlet.on_room(task::Waker::from(Arc::new(Unpark(thread))));
        for piece in [1, 700, 20_000].into_iter().cycle() {
            let end = (sent + piece).min(all.len());
            while sent < end {
                sent += inlet.write(&all[sent..end]);
                if sent < end {
                    std::thread::park_timeout(std::time::Duration::from_secs(60));
                }
            }
            if sent == all.len() {
                return inlet.finish(None);
            }
        }
    });
    outlet.on_data(task::Waker::from(Arc::new(Unpark(std::thread::current()))));
    let (mut received, start) = (0, std::time::Instant::now());
    while !outlet.is_finished() {
        assert_eq!(MEMORY.held(), 0);
        let bytes = outlet.bytes();
        let n = bytes.len().min(9_999);
        assert!(bytes[..n] == body[received..received + n]);
        outlet.consume(n);
        received += n;
        if n == 0 && !outlet.is_finished() {
            std::thread::park_timeout(std::time::Duration::from_secs(60));
        }
    }
    writer.join().expect("no panic");
    assert_eq!(received, body.len());
    assert!(start.elapsed().as_secs() < 60, "each end was woken when it could continue");
}

struct Unpark(std::thread::Thread);

impl task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_thread_reads_what_another_writes() {
    let (mut inlet, outlet) = pipe(1000);
    let written: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    let expected = written.clone();
    let reader = std::thread::spawn(move || {
        let mut reader = outlet.reader();
        let (mut read, mut block) = (Vec::new(), [0; 333]);
        assert_eq!(reader.read(&mut []).expect("nothing was asked for"), 0);
        loop {
            match reader.read(&mut block).expect("not truncated") {
                0 => break read,
                n => read.extend_from_slice(&block[..n]),
            }
        }
    });
    let room = Arc::new(Wakes::default());
    inlet.on_room(task::Waker::from(room));
    let mut rest = &written[..];
    while !rest.is_empty() {
        let n = inlet.write(rest);
        rest = &rest[n..];
        if n == 0 {
            std::thread::yield_now();
        }
    }
    inlet.finish(None);
    assert!(reader.join().expect("no panic") == expected, "all bytes, in order");
}

#[test]
fn a_reader_that_waits_learns_of_the_end() {
    for finishes in [true, false] {
        let (mut inlet, outlet) = pipe(1000);
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            outlet.reader().read_to_string(&mut text).map(|_| text).map_err(|error| error.kind())
        });
        assert_eq!(inlet.write(b"hello"), 5);
        while inlet.counters().read() < 5 {
            std::thread::yield_now();
        }
        match finishes {
            true => inlet.finish(None),
            false => drop(inlet),
        }
        let expected = if finishes { Ok("hello".to_owned()) } else { Err(io::ErrorKind::UnexpectedEof) };
        assert_eq!(reader.join().expect("no panic"), expected);
    }
    // A reader that is dropped before the end closes the pipe.
    let (inlet, outlet) = pipe(1000);
    drop(outlet.reader());
    assert!(inlet.is_closed());
}

#[test]
fn a_reader_takes_parts_of_a_block() {
    let (mut inlet, outlet) = pipe(64 * 1024);
    let mut reader = outlet.reader();
    assert_eq!(inlet.write(b"hello, world"), 12);
    let mut block = [0; 5];
    assert_eq!((reader.read(&mut block).expect("bytes"), &block), (5, b"hello"));
    assert_eq!(inlet.write(b"!"), 1);
    inlet.finish(None);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, ", world!");
}
