//! Listening sockets.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{BorrowedFd, OwnedFd},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{options::Options, types::flag};

/// Returns the listening socket of the flags and options; `None` if the flags say that there is none.
pub(crate) fn open(options: &Options, flags: u32, port: u16) -> io::Result<Option<OwnedFd>> {
    if flags & flag::NO_LISTEN_SOCKET != 0 {
        return Ok(None);
    }
    if let Some(fd) = options.socket {
        // SAFETY: The program has passed an open descriptor, which stays open during this call.
        return unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().map(Some);
    }
    let any: SocketAddr = match flags & flag::IPV6 {
        0 => (Ipv4Addr::UNSPECIFIED, port).into(),
        _ => (Ipv6Addr::UNSPECIFIED, port).into(),
    };
    let address = options.address.unwrap_or(any);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // 0 forbids that others use the address, which needs no option here.
    if options.reuse != Some(0) {
        socket.set_reuse_address(true)?;
    }
    if options.reuse.is_some_and(|reuse| reuse > 0) {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(flags & flag::DUAL_STACK != flag::DUAL_STACK)?;
    }
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(Some(socket.into()))
}

/// Returns the port that a socket is bound to; 0 if it has none.
pub(crate) fn port(socket: &OwnedFd) -> u16 {
    socket2::SockRef::from(socket).local_addr().ok().and_then(|addr| addr.as_socket()).map_or(0, |addr| addr.port())
}
