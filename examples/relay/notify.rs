//! Notifies systemd when the program is ready, reloads or stops, and that its loops still run.
//!
//! This is the protocol of sd_notify(3): datagrams of `NAME=value` to the Unix socket that `NOTIFY_SOCKET` names.
//! Without that variable, nothing is sent. The crate `sd-notify` (0.5) has no abstract names (`@`), and its send
//! blocks; hence the few lines here.

use std::{
    os::unix::net::{SocketAddr, UnixDatagram},
    sync::mpsc,
    time::Duration,
};

use uncork::LoopHandle;

/// Sends a state to systemd, if it started the program with `NOTIFY_SOCKET`.
pub(crate) fn send(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = address(name.as_encoded_bytes()).and_then(|addr| {
        let socket = UnixDatagram::unbound()?;
        // A full socket must not block the program.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &addr).map(drop)
    }) {
        log::warn!("cannot send {state:?} to systemd: {error}");
    }
}

/// Parses a path, or after `@` a name in Linux' abstract namespace.
fn address(name: &[u8]) -> std::io::Result<SocketAddr> {
    use std::os::unix::ffi::OsStrExt;
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix(b"@") {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(std::path::Path::new(std::ffi::OsStr::from_bytes(name)))
}

/// Returns half of the watchdog's interval (sd_watchdog_enabled(3)), if systemd has set one.
fn watchdog() -> Option<Duration> {
    let pid = std::env::var("WATCHDOG_PID").ok();
    if pid.is_some_and(|pid| pid != std::process::id().to_string()) {
        return None;
    }
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros / 2))
}

/// Sends keep-alives to the watchdog while every loop runs. If one hangs, they stop, and systemd restarts the program.
pub(crate) fn watch(loops: Vec<LoopHandle>) {
    let Some(interval) = watchdog() else { return };
    let watch = move || {
        loop {
            let (sender, receiver) = mpsc::channel();
            for loop_handle in &loops {
                let sender = sender.clone();
                loop_handle.after(Duration::ZERO, move |_| {
                    let _ = sender.send(());
                });
            }
            let all_run = loops.iter().all(|_| receiver.recv_timeout(interval).is_ok());
            if all_run {
                send("WATCHDOG=1");
            }
            std::thread::park_timeout(interval);
        }
    };
    let started = std::thread::Builder::new().name("watchdog".into()).spawn(watch);
    if let Err(error) = started {
        log::error!("cannot start a thread for the watchdog: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstract_names_and_paths_are_distinguished() {
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
