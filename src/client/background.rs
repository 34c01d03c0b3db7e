//! The loop of blocking requests.

use std::{io, sync::Mutex};

use crate::{
    api::{Action, Handler, LoopHandle, Request},
    base::lock,
    server::{Running, Server},
};

/// The loop of blocking requests, in a thread of its own: started by the first one, stopped with the client.
#[derive(Default)]
pub(super) struct Background(Mutex<Option<(LoopHandle, Running)>>);

/// A handler without connections: the loop has no listener.
#[derive(Clone)]
struct NoRequests;

impl Handler for NoRequests {
    fn request(&mut self, _: &mut Request<'_>) -> Action {
        Action::Abort
    }
}

impl Background {
    pub(super) fn loop_handle(&self) -> io::Result<LoopHandle> {
        let mut running = lock(&self.0);
        if let Some((handle, _)) = &*running {
            return Ok(handle.clone());
        }
        let started = Server::new().threads(1, NoRequests)?;
        let handle = started.loops().into_iter().next().ok_or(io::ErrorKind::NotFound)?;
        *running = Some((handle.clone(), started));
        Ok(handle)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Not joined: this may run on that thread.
        if let Some((_, running)) = lock(&self.0).take() {
            running.stop_handle().stop_now();
        }
    }
}
