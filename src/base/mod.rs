//! The vocabulary of all modules: bytes, masks, times, ids, limits, end reasons.
//!
//! ```text
//!   Buf, Out     bytes on their way in, and out        EventMask   the events an upgraded connection waits for
//!   Tick, Wait   times                                 ConnId, RequestId
//!   Limits       sizes, numbers, timeouts              EndReason   reasons for an end
//!   PipeMemory   the memory of all pipes               Pool        buffers, lent
//!   Mailbox      a queue and a notifier for threads    PeerAddr    the address of a peer
//!   Duplex       a socket within this process          Runs        bytes with gaps, decoded in place
//!   LogThrottle  lines for the log, one a minute       lock        a mutex, poisoned or not
//! ```
//!
//! Depends on nothing, does no I/O and reads no clock; every other module may import it.

pub(crate) mod addr;
pub(crate) mod buf;
pub(crate) mod duplex;
pub(crate) mod end_reason;
pub(crate) mod id;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod log_throttle;
pub(crate) mod mailbox;
pub(crate) mod mask;
pub(crate) mod out;
pub(crate) mod panic;
pub(crate) mod pipe_memory;
pub(crate) mod pool;
pub(crate) mod runs;
pub(crate) mod time;

pub use addr::PeerAddr;
pub use end_reason::{EndReason, Timeout};
pub use id::{ConnId, RequestId};
pub use limits::Limits;
pub(crate) use lock::lock;
pub use mask::EventMask;
pub(crate) use panic::panic_message;
pub use time::{Moment, Wait};
