//! Pipes: from one connection's socket into a block, and from the block directly to another socket.
//!
//! ```text
//!   body of known length, plain ──read───▶ ┌────────┐ ──write, after what waits in the output───▶ socket
//!   chunks, TLS, what came with            │ buffer │                                            plain, TLS, chunked
//!   the head ──read, sorted out in there─▶ └────────┘
//!   body of known length, plain ──splice─▶ ═ kernel ═ ──splice, when the output is empty────────▶ plain, not chunked
//!                                              └────────splice, by the sender, while the receiver waits──────▲
//! ```
//!
//! The end that has work takes the block out of the pipe, makes one system call, and returns the block. The pipe knows
//! which kind of block it is and whose socket is lent (`api/pipe`); the counters are the same. A read that did not fill
//! the buffer has emptied the socket. A splice that moved less than requested may have more: it is tried again.
//!
//! Bytes are read into the block with their framing, which is then marked where it lies. Bytes of the next request
//! return to the input. Only into a small pipe, or when much has arrived with the head, bytes are copied from the
//! input.
//!
//! | file | content |
//! |---|---|
//! | `fill` | the sender's side |
//! | `drain` | the receiver's side |

mod drain;
mod fill;

/// System calls for one end of a pipe before its connection does anything else. The other end may work on another loop
/// at the same time, and then there is always more to do.
const CALLS: usize = 4;
/// From this size on, a pipe takes framing together with the bytes: there is always space for a line or a TLS record.
pub(super) const ROOMY: usize = 64 * 1024;
