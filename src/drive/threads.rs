//! Own threads: one loop in each, with a clone of the handler and listening sockets of its own.

use std::{
    io,
    thread::{Builder, JoinHandle},
};

use super::{Clock, Loops, turn_until};
use crate::engine::{Engine, Setup};

/// Starts one thread for each setup. All loops exist, and hold their listeners, before the first one turns.
pub(crate) fn start(
    setups: Vec<impl FnOnce() -> Setup<'static> + Send + 'static>,
    loops: &Loops,
) -> io::Result<Vec<JoinHandle<io::Result<()>>>> {
    let mut threads: Vec<JoinHandle<io::Result<()>>> = Vec::with_capacity(setups.len());
    for (number, setup) in setups.into_iter().enumerate() {
        let (loops_there, ready) = (loops.clone(), std::sync::mpsc::sync_channel(1));
        let (tell, told) = ready;
        let run = move || {
            // A handler need not be Sync, nor an engine Send: it is made where it works.
            let mut engine = match Engine::new(setup(), Clock::new().now()) {
                Ok(engine) => engine,
                Err(error) => {
                    let _ = tell.send(Err(error));
                    return Ok(());
                }
            };
            let handle = engine.handle();
            loops_there.add(handle.clone());
            let _ = tell.send(Ok(()));
            let result = turn_until(&mut engine, Engine::is_done);
            loops_there.remove(&handle);
            result
        };
        threads.push(Builder::new().name(format!("uncork-{number}")).spawn(run)?);
        let started = told.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended before it began")));
        if let Err(error) = started {
            loops.stop(None);
            return Err(error);
        }
    }
    Ok(threads)
}
