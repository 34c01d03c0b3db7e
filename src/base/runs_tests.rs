use super::*;
use crate::base::pipe_memory::PipeMemory;

fn runs(room: usize) -> Runs {
    Runs::from_store(vec![0; room].into_boxed_slice())
}

fn put_raw(runs: &mut Runs, bytes: &[u8]) {
    runs.read_raw(|buf| assert_eq!(buf.push(bytes), bytes.len()));
}

fn all(runs: &Runs) -> (Vec<u8>, usize) {
    let mut pieces = [IoSlice::new(&[]); 32];
    let n = runs.pieces(usize::MAX, &mut pieces);
    (pieces[..n].iter().map(|piece| &**piece).collect::<Vec<&[u8]>>().concat(), n)
}

/// Returns a block of chunks of these sizes, with ten bytes of framing before each and four after the last, and the
/// data.
fn framed(sizes: &[usize]) -> (Runs, Vec<u8>) {
    let mut block = runs(64 * 1024);
    let (mut wire, mut data) = (Vec::new(), Vec::new());
    for (i, &size) in sizes.iter().enumerate() {
        wire.extend_from_slice(b"__________");
        let chunk: Vec<u8> = (0..size).map(|j| (i * 7 + j) as u8).collect();
        wire.extend_from_slice(&chunk);
        data.extend_from_slice(&chunk);
    }
    wire.extend_from_slice(b"____rest");
    put_raw(&mut block, &wire);
    for &size in sizes {
        block.is_framing(10);
        // In two steps.
        block.is_data(size / 2);
        block.is_data(size - size / 2);
    }
    block.is_framing(4);
    assert_eq!(block.raw(), b"rest");
    let mut rest = Vec::new();
    block.take_raw(|raw| rest.extend_from_slice(raw));
    assert_eq!(rest, b"rest");
    (block, data)
}

#[test]
fn framing_is_not_seen_and_only_short_runs_are_moved() {
    for (sizes, pieces) in [
        (&[5000][..], 1),
        (&[10_000, 10_000, 10_000], 3),
        (&[1, 1, 1, 1, 1], 1),
        (&[1, 10_000, 1, 10_000, 10_000], 4),
        (&[], 0),
    ] {
        let (block, data) = framed(sizes);
        assert_eq!(block.len(), data.len());
        assert_eq!(all(&block), (data, pieces), "{sizes:?}");
    }
}

#[test]
fn order_is_kept_however_it_is_consumed() {
    for step in [1, 7, 9_999, 10_000, 10_001, 24_000, 100_000] {
        let (mut block, data) = framed(&[10_000, 3, 10_000, 10_000, 3, 9000]);
        let mut got = Vec::new();
        while !block.is_empty() {
            assert_eq!(all(&block).0, &data[got.len()..]);
            let n = step.min(block.filled().len());
            got.extend_from_slice(&block.filled()[..n]);
            block.consume(n);
        }
        assert!(got == data, "in steps of {step}");
        assert_eq!(block.spare().len(), 64 * 1024, "an emptied block starts over");
        let (mut block, data) = framed(&[10_000, 3, 10_000, 10_000, 3, 9000]);
        let n = step.min(data.len());
        block.consume(n);
        assert_eq!(all(&block).0, &data[n..], "across runs");
    }
}

#[test]
fn later_bytes_follow_the_data() {
    let (mut block, mut data) = framed(&[10_000, 10_000]);
    data.extend_from_slice(b"more");
    assert_eq!(block.push(b"more"), 4);
    block.spare()[..3].copy_from_slice(b"and");
    block.commit(3);
    data.extend_from_slice(b"and");
    assert_eq!(all(&block), (data, 2));
    let mut pieces = [IoSlice::new(&[]); 1];
    assert_eq!(block.pieces(12_000, &mut pieces), 1, "as many pieces as there is room for");
    assert_eq!(pieces[0].len(), 10_000);
}

#[test]
fn when_memory_is_used_up_a_block_is_small_and_has_the_least_room() {
    const ROOM: usize = 256 * 1024;
    const MOST: usize = 4 * ROOM - 10_000;
    static MEMORY: PipeMemory = PipeMemory::new(4 * ROOM);
    let make = |size| vec![0; size].into_boxed_slice();
    let (mut block, mut others) = (Runs::with_share(Share::none(&MEMORY)), Share::none(&MEMORY));
    others.resize(MOST);
    block.make_room_for(ROOM, 0, ROOM, make);
    assert_eq!((block.capacity(), MEMORY.held()), (SMALL, MOST));
    let data: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(block.push(&data), 10_000);
    assert!(!block.has_room(ROOM), "its rear half is not free");
    block.consume(9_000);
    block.make_room_for(ROOM, 0, ROOM, make);
    assert!(!block.has_room(ROOM) && block.capacity() == SMALL && block.spare().len() == SMALL - 10_000);
    block.make_room_for(ROOM, 9_000, ROOM, make);
    assert!(block.has_room(ROOM) && block.capacity() == SMALL && block.spare().len() >= 9_000);
    block.make_room_for(ROOM, 20_000, ROOM, make);
    assert_eq!((block.capacity(), MEMORY.held()), (2 * SMALL, MOST + 2 * SMALL));
    assert_eq!(block.filled(), &data[9_000..]);
    others.resize(0);
    block.make_room_for(ROOM, 0, ROOM, make);
    assert_eq!((block.capacity(), MEMORY.held()), (ROOM, ROOM));
    assert!(block.has_room(ROOM) && block.filled() == &data[9_000..]);
    others.resize(MOST);
    assert!(!block.has_room(ROOM), "others need the memory: it must be emptied first");
    block.leave_store();
    assert_eq!(MEMORY.held(), MOST + ROOM, "there is something in it");
    block.consume(1_000);
    assert!(block.has_room(ROOM));
    block.leave_store();
    assert_eq!((block.capacity(), MEMORY.held()), (0, MOST));
}

#[test]
fn a_read_that_makes_the_store_larger_is_counted() {
    static MEMORY: PipeMemory = PipeMemory::new(0);
    let mut block = Runs::with_share(Share::none(&MEMORY));
    block.make_room_for(100, 0, 64 * 1024, |size| vec![0; size].into_boxed_slice());
    block.read_raw(|buf| drop(buf.reserve(3 * SMALL)));
    assert_eq!((block.capacity(), MEMORY.held()), (4 * SMALL, 4 * SMALL));
    drop(block);
    assert_eq!(MEMORY.held(), 0);
}

#[test]
fn a_block_that_is_smaller_than_wanted_has_room_for_what_it_must() {
    const ROOM: usize = 256 * 1024;
    static MEMORY: PipeMemory = PipeMemory::new(8 * SMALL);
    let mut block = Runs::with_share(Share::none(&MEMORY));
    // A quarter of the memory is two small blocks, which is less than this needs.
    block.make_room_for(ROOM, 3 * SMALL, ROOM, |size| vec![0; size].into_boxed_slice());
    assert_eq!((block.capacity(), MEMORY.held()), (4 * SMALL, 4 * SMALL));
}
