//! The client as the application holds it.

use std::{fmt, sync::Arc};

use super::{
    background::Background,
    error::Error,
    exchange::Exchange,
    pool::Pool,
    request::Request,
    response::{Completion, FullResponse, Response},
};
use crate::api::LoopHandle;

/// An HTTP client with a pool of connections.
///
/// Cheap to clone: all clones share one pool, for all loops. When the last clone is dropped, idle connections are
/// closed and requests in progress are completed.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    background: Arc<Background>,
}

impl Client {
    pub(super) fn with_pool(pool: Arc<Pool>) -> Self {
        Self { pool, background: Arc::default() }
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(super) fn background(&self) -> &Arc<Background> {
        &self.background
    }

    /// Sends `request` and calls `then` with the head of the response, or with an error.
    ///
    /// `then` is called exactly once, on the loop `on`. It must not block. It is never called within `send`, except
    /// with [`Error::LoopEnded`] if the loop has ended.
    ///
    /// `on` is [`Request::loop_handle`](crate::Request::loop_handle), or any other [`LoopHandle`]. Connections belong
    /// to loops; an idle connection of this loop is used first.
    pub fn send(&self, on: &LoopHandle, request: Request, then: impl FnOnce(Result<Response, Error>) + Send + 'static) {
        let (pool, loop_handle, then) = (self.pool.clone(), on.clone(), Completion::new(then));
        // The loop knows the time. If it has ended, dropping `then` reports that.
        on.at_once(move |now| match request.ready(&pool.settings) {
            Ok(request) => pool.start(Exchange::new(request, &pool.settings, loop_handle, then, now), now),
            Err(error) => then.complete(Err(error)),
        });
    }

    /// Sends `request` and collects the response's body, up to `limit` bytes: [`send`](Self::send), then
    /// [`Response::collect`].
    pub fn send_collect(
        &self,
        on: &LoopHandle,
        request: Request,
        limit: usize,
        then: impl FnOnce(Result<FullResponse, Error>) + Send + 'static,
    ) {
        let then = Completion::new(then);
        self.send(on, request, move |result| match result {
            Ok(response) => response.collect_for(limit, then),
            Err(error) => then.complete(Err(error)),
        });
    }

    /// Returns the number of idle connections, over all loops.
    pub fn idle_connections(&self) -> usize {
        self.pool.idle_connections()
    }

    /// Returns the number of connections, over all loops: idle, in use, or being opened.
    pub fn connections(&self) -> usize {
        self.pool.connections()
    }

    /// Closes all idle connections.
    pub fn close_idle(&self) {
        self.pool.close_idle();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("connections", &self.connections())
            .field("idle", &self.idle_connections())
            .finish_non_exhaustive()
    }
}
