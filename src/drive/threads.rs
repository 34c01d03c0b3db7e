//! A server in its own threads: each runs one loop, with a clone of the handler and listening sockets of its own.

use std::{
    io,
    thread::{Builder, JoinHandle},
};

use super::{Clock, Loops, turn_until};
use crate::engine::{Engine, Setup};

/// Starts one thread for each setup. Returns when all loops exist and hold their listeners.
pub(crate) fn start(
    setups: Vec<impl FnOnce() -> Setup<'static> + Send + 'static>,
    loops: &Loops,
) -> io::Result<Vec<JoinHandle<io::Result<()>>>> {
    let mut threads: Vec<JoinHandle<io::Result<()>>> = Vec::with_capacity(setups.len());
    for (number, setup) in setups.into_iter().enumerate() {
        let registry = loops.clone();
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            // A handler need not be Sync, nor an engine Send: the engine is created in its own thread.
            let mut engine = match Engine::new(setup(), Clock::new().now()) {
                Ok(engine) => engine,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return Ok(());
                }
            };
            let handle = engine.handle();
            registry.add(handle.clone());
            let _ = started.send(Ok(()));
            let result = turn_until(&mut engine, Engine::is_done);
            registry.remove(&handle);
            result
        };
        threads.push(Builder::new().name(format!("uncork-{number}")).spawn(run)?);
        let result = start.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended before its loop started")));
        if let Err(error) = result {
            loops.stop(None);
            return Err(error);
        }
    }
    Ok(threads)
}
