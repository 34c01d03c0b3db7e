use std::{fs::File, sync::atomic::AtomicUsize};

use super::*;
use crate::base::kernel_pipe::{Ends, KernelPipes};

/// How often somebody was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn make() -> io::Result<Ends> {
    let (read, write) = io::pipe()?;
    Ok(Ends { read, write })
}

#[test]
fn it_is_bounded_and_pushes_back() {
    let (mut inlet, mut outlet) = pipe(8);
    assert_eq!(inlet.write(b"hello, world"), 8);
    assert_eq!(inlet.write(b"more"), 0);
    assert_eq!(outlet.bytes(), b"hello, w");
    outlet.consume(8);
    assert_eq!(inlet.write(b"orld"), 4);
    assert_eq!((inlet.counters().written(), outlet.counters().read()), (12, 8));
}

#[test]
fn what_is_written_in_small_pieces_is_held_in_a_store_that_grows_with_it() {
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
    assert!(written >= 32 * 1024, "half of what there is room for, at the least: {written}");
    assert_eq!(outlet.bytes(), &all[..written]);
}

#[test]
fn a_dropped_writer_cuts_it_off_behind_the_data() {
    let (mut inlet, mut outlet) = pipe(8);
    inlet.write(b"part");
    drop(inlet);
    assert_eq!(outlet.bytes(), b"part");
    outlet.consume(4);
    assert!(matches!(outlet.lend(), Lent::Over(PipeEnd::Cut)));
    assert!(outlet.is_truncated() && !outlet.is_finished());
}

#[test]
fn a_dropped_reader_is_told() {
    let (mut inlet, outlet) = pipe(8);
    drop(outlet);
    assert!(inlet.is_closed());
    assert_eq!(inlet.write(b"x"), 0);
}

#[test]
fn nothing_overtakes_or_is_lost_across_threads() {
    let (mut inlet, mut outlet) = pipe(100);
    let writer = std::thread::spawn(move || {
        let (all, mut sent) = ((0..50_000u32).map(|i| i as u8).collect::<Vec<_>>(), 0);
        while sent < all.len() {
            sent += inlet.write(&all[sent..(sent + 77).min(all.len())]);
            std::thread::yield_now();
        }
        inlet.finish(None);
    });
    let mut got = Vec::new();
    while !outlet.is_finished() {
        let n = {
            let bytes = outlet.bytes();
            got.extend_from_slice(bytes);
            bytes.len()
        };
        outlet.consume(n);
        std::thread::yield_now();
    }
    writer.join().expect("no panic");
    assert_eq!(got.len(), 50_000);
    assert!(got.iter().enumerate().all(|(i, &b)| b == i as u8));
}

#[test]
fn a_socket_that_is_lent_is_given_what_it_may_have_and_nothing_when_it_is_back() {
    let (mut inlet, mut outlet) = pipe(100);
    let wakes = Arc::new(Wakes::default());
    outlet.set_splices(true);
    let woken = || wakes.0.load(Ordering::Relaxed);
    let mut block = Arc::new(KernelPipes::new(1)).take(make).expect("one");
    let all = |_: BorrowedFd<'_>, block: &mut KernelPipe, most: usize| {
        block.taken_out(most);
        Ok(most)
    };
    let half = |socket: BorrowedFd<'_>, block: &mut KernelPipe, most: usize| all(socket, block, most / 2);
    let socket = || File::open("/dev/null").map(OwnedFd::from);

    outlet.open_bypass(10, || panic!("nothing was spliced so far"));
    block.put_in(20);
    inlet.count(20);
    inlet.pass_on(&mut block, |_, _, _| panic!("nothing was lent"));
    inlet.give_back(Block::Kernel(block));
    let Lent::Block(Block::Kernel(mut block)) = outlet.lend() else { panic!("there it is") };
    outlet.on_data(wakes.clone());
    outlet.open_bypass(10, socket);
    inlet.pass_on(&mut block, half);
    assert_eq!((block.len(), outlet.counters().read(), woken()), (15, 5, 0));
    inlet.pass_on(&mut block, all);
    assert_eq!((block.len(), woken()), (10, 1), "what it may have has gone: somebody has to look");
    inlet.pass_on(&mut block, all);
    assert_eq!((block.len(), outlet.shut_bypass(), outlet.shut_bypass()), (10, 10, 0));

    outlet.open_bypass(10, || panic!("there is one"));
    assert_eq!(outlet.shut_bypass(), 0);
    inlet.pass_on(&mut block, all);
    assert_eq!((block.len(), outlet.counters().read()), (10, 10));
    outlet.open_bypass(10, || panic!("there is one"));
    inlet.pass_on(&mut block, |_, _, _| Err(io::ErrorKind::ConnectionReset.into()));
    assert_eq!((block.len(), woken()), (10, 2), "somebody has to hear of it");
    assert_eq!(outlet.bypass_fault().map(|error| error.kind()), Some(io::ErrorKind::ConnectionReset));
    assert!(outlet.bypass_fault().is_none());
    outlet.open_bypass(10, || panic!("there is one"));
    drop(outlet);
    inlet.pass_on(&mut block, all);
    assert_eq!(block.len(), 10, "who is gone has taken it along");
}

#[test]
fn what_an_end_takes_out_itself_has_not_gone_past_it() {
    let (mut inlet, mut outlet) = pipe(100);
    outlet.set_splices(true);
    let mut block = Arc::new(KernelPipes::new(1)).take(make).expect("one");
    block.put_in(20);
    inlet.count(20);
    inlet.give_back(Block::Kernel(block));
    let Lent::Block(Block::Kernel(mut block)) = outlet.lend() else { panic!("there it is") };
    block.taken_out(3);
    outlet.give_back(Block::Kernel(block), 3);
    assert_eq!((outlet.shut_bypass(), outlet.counters().read()), (0, 3));
}
