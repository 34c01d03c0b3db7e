//! What systemd is told: that we are ready, that we reload or stop, and that the loops still turn.
//!
//! The protocol of sd_notify(3): datagrams of `NAME=value` to the Unix socket that `NOTIFY_SOCKET` names. Where there is no
//! such variable, nobody is told.

use std::{
    os::unix::net::{SocketAddr, UnixDatagram},
    sync::mpsc,
    time::Duration,
};

use uncork::LoopHandle;

/// Tells systemd, if it wants to know.
pub(crate) fn tell(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = address(name.as_encoded_bytes()).and_then(|addr| {
        let socket = UnixDatagram::unbound()?;
        // If it has no time to read, nothing here waits for it.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &addr).map(drop)
    }) {
        log::warn!("systemd can't be told {state:?}: {error}");
    }
}

/// A path, or behind an `@` a name in Linux' abstract room.
fn address(name: &[u8]) -> std::io::Result<SocketAddr> {
    use std::os::unix::ffi::OsStrExt;
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix(b"@") {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(std::path::Path::new(std::ffi::OsStr::from_bytes(name)))
}

/// How often systemd wants to hear of us (sd_watchdog_enabled(3)): it is told twice as often.
fn watchdog() -> Option<Duration> {
    let pid = std::env::var("WATCHDOG_PID").ok();
    if pid.is_some_and(|pid| pid != std::process::id().to_string()) {
        return None;
    }
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros / 2))
}

/// Tells systemd again and again that every loop turns. One that hangs silences it, and systemd starts us anew.
pub(crate) fn watch(loops: Vec<LoopHandle>) {
    let Some(pause) = watchdog() else { return };
    let watch = move || {
        loop {
            let (turned, turns) = mpsc::channel();
            for one in &loops {
                let turned = turned.clone();
                one.after(Duration::ZERO, move |_| {
                    let _ = turned.send(());
                });
            }
            let alive = loops.iter().all(|_| turns.recv_timeout(pause).is_ok());
            if alive {
                tell("WATCHDOG=1");
            }
            std::thread::park_timeout(pause);
        }
    };
    let started = std::thread::Builder::new().name("watchdog".into()).spawn(watch);
    if let Err(error) = started {
        log::error!("no thread for the watchdog: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstract_names_and_paths_are_told_apart() {
        assert_eq!(address(b"/run/notify").expect("a path").as_pathname(), Some(std::path::Path::new("/run/notify")));
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt;
            let addr = address(b"@uncork-test").expect("a name");
            assert_eq!(addr.as_abstract_name(), Some(&b"uncork-test"[..]));
        }
        assert!(address(&[b'x'; 200]).is_err());
    }
}
