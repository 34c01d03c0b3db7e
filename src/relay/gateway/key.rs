//! The key of a session, which the application chooses.

use std::sync::Arc;

/// The value of the header field that names a session: any bytes.
pub(super) type Key = Arc<[u8]>;
