//! Sockets inherited at start by systemd's protocol, LISTEN_FDS.

use std::{os::fd::OwnedFd, path::PathBuf};

use super::Failure;

/// The sockets that no listener has taken.
pub(crate) struct Inherited(Vec<Socket>);

/// One inherited socket.
pub(crate) struct Socket {
    /// FileDescriptorName in systemd; empty for none.
    name: String,
    pub(crate) fd: OwnedFd,
    /// Address for the log.
    pub(crate) addr: String,
}

impl Inherited {
    /// Takes the sockets and removes their variables from the environment. Must be called before threads are started.
    pub(crate) fn take() -> Result<Self, Failure> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut fds = listenfd::ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..fds.len() {
            let name = names.next().unwrap_or_default().to_owned();
            if let Some(listener) = fds.take_tcp_listener(index).ok().flatten() {
                let addr = listener.local_addr().map_err(|error| Failure::system(&"an inherited socket", &error))?;
                sockets.push(Socket { name, fd: listener.into(), addr: addr.to_string() });
                continue;
            }
            let listener = fds.take_unix_listener(index).map_err(|error| {
                Failure::system(&format!("inherited socket {index} {name:?} is neither TCP nor Unix"), &error)
            })?;
            if let Some(listener) = listener {
                let path = listener.local_addr().ok().and_then(|addr| addr.as_pathname().map(PathBuf::from));
                let path = path.map_or_else(String::new, |path| path.display().to_string());
                sockets.push(Socket { name, fd: listener.into(), addr: format!("unix:{path}") });
            }
        }
        Ok(Self(sockets))
    }

    /// Returns `true` if all sockets were taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes and returns the sockets with this name; all of them with `None`.
    pub(crate) fn take_named(&mut self, name: Option<&str>) -> Vec<Socket> {
        self.0.extract_if(.., |socket| name.is_none_or(|name| name == socket.name)).collect()
    }
}
