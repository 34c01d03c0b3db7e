//! One bounded block of bytes between two connections, on any two loops and transports.
//!
//! ```text
//!   sender's loop                                            receiver's loop
//!   socket ──read──▶ PipeIn ──▶ [ one block, `room` bytes ] ──▶ PipeOut ──write──▶ socket
//!                       ▲  on_room ◀────────────┘ └────────────▶ on_data
//! ```
//!
//! The engine reads into the block and writes from it directly. The end that works on the block has taken it out, so
//! the lock is never held during a system call. An end that finds the block taken is woken when it is back. Bytes are
//! not moved within the block, not even to close the gaps that framing leaves between them
//! ([`Runs`](crate::base::runs::Runs)): it is filled again when it is empty, or while its rear half is free. (Smaller
//! blocks, or two of them, cost 1.2 to 2.8 times as much as a bare copy loop when that was measured.) A block that
//! stays empty has no memory, so an idle stream holds none. All blocks of the process together have a limit
//! ([`set_pipe_memory_limit`]); the less of it is free, the smaller are new blocks.
//!
//! If both sockets are plain and nothing must be put between the bytes, the bytes need not enter the process. The block
//! is a pipe of the system then, and bytes are spliced into it and out of it.
//!
//! ```text
//!                      the receiver takes spliced bytes, and much of a body is left on the sender's plain socket
//!   [ buffer ] ── empty ──────────────────────────────────────────────────────────────────────────▶ [ kernel pipe ]
//!              ◀───────────────────────────────────────────────────────────────────────── empty ──
//!                      the sender's bytes must be inspected, or are written by the application
//! ```
//!
//! Only [`PipeIn::lend`] decides that. The writer changes the kind of an empty block only. A reader that cannot take
//! spliced bytes, because it is the application or uses TLS, gets the content of a kernel pipe in a buffer. So no order
//! of events can lose bytes, or pass them to the wrong reader.
//!
//! While the receiver has nothing else to send, it lends the pipe its socket ([`PipeOut::open_bypass`]): the sender's
//! loop sends the spliced bytes there itself, and no thread must be woken for it. See [`bypass`].

mod block;
mod bypass;
mod counters;
mod inlet;
mod outlet;
mod reader;
mod shared;

use self::shared::Shared;
pub(crate) use self::{
    block::Block,
    shared::{Lent, PipeEnd, Splice},
};
pub use self::{counters::PipeCounters, inlet::PipeIn, outlet::PipeOut, reader::PipeReader};
use crate::base::pipe_memory::{self, Share};

/// Creates a pipe of `room` bytes. [`PipeIn`] is an [`Upload`](crate::Upload) and [`PipeOut`] a
/// [`Produce`](crate::Produce): given to the engine as such, it moves the bytes itself. The application can also use
/// either end directly.
///
/// `room` is clamped to 1 byte to 1 GiB. The pipe never holds more: memory is allocated when bytes arrive, grows with
/// them, and is freed when the pipe stays empty. 256 KiB is a good size for bodies, and a few KiB for messages. From 64
/// KiB on, the engine can let the system move the bytes (splice(2) on Linux, between plain sockets), and reads chunked
/// and TLS bodies directly into the pipe.
///
/// ```
/// let (mut inlet, mut outlet) = uncork::pipe(4096);
/// assert_eq!(inlet.write(b"hello"), 5);
/// inlet.finish(None);
/// assert_eq!(outlet.bytes(), b"hello");
/// outlet.consume(5);
/// assert!(outlet.is_finished());
/// ```
///
/// A thread that may block reads with [`PipeOut::reader`].
pub fn pipe(room: usize) -> (PipeIn, PipeOut) {
    pipe_with_share(room, Share::default())
}

/// Returns how many bytes the blocks of all pipes of the process hold now. Blocks of up to 16 KiB are not counted.
pub fn pipe_memory() -> usize {
    pipe_memory::PROCESS.held()
}

/// Sets the limit of [`pipe_memory`], for the whole process: a pipe belongs to no server. Default: 256 MiB, which is
/// 1,024 full pipes of the relays.
///
/// A pipe gets a block of its full size while that is at most a quarter of the free memory. Otherwise it gets a smaller
/// one, down to 16 KiB (32 KiB for TLS or chunked bodies). Nothing is rejected and nothing waits; small blocks only
/// need more system calls. While less than a quarter of the memory is free, a larger block must be emptied before it is
/// filled again. Its memory then goes to the next pipe that needs a block.
///
/// Without a limit, one client could have a pipe for each of its connections, and fill all of them.
pub fn set_pipe_memory_limit(bytes: usize) {
    pipe_memory::PROCESS.set_limit(bytes);
}

fn pipe_with_share(room: usize, share: Share) -> (PipeIn, PipeOut) {
    let shared = Shared::new(room, share);
    (PipeIn::new(shared.clone()), PipeOut::new(shared))
}

#[cfg(test)]
mod tests;
