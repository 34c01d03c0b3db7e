//! Listening sockets and socket addresses.

use std::{
    io,
    mem::{size_of, zeroed},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{BorrowedFd, OwnedFd},
};

use libc::{sa_family_t, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t};
use socket2::{Domain, Protocol, Socket, Type};
use uncork::PeerAddr;

use crate::{
    options::{Invalid, Options},
    types::flag,
};

/// Reads an address; `None` for NULL.
///
/// # Safety
/// A pointer that is not NULL must point to an address of `len` bytes, or as long as its family tells.
pub(crate) unsafe fn address(address: *const sockaddr, len: Option<usize>) -> Result<Option<SocketAddr>, Invalid> {
    if address.is_null() {
        return Ok(None);
    }
    let len = len.unwrap_or(usize::MAX);
    if len < size_of::<sa_family_t>() {
        return Err(Invalid::Address);
    }
    // SAFETY: The caller guarantees that these bytes are readable; they need not be aligned.
    let family = unsafe { address.cast::<sa_family_t>().read_unaligned() };
    match i32::from(family) {
        libc::AF_INET if len >= size_of::<sockaddr_in>() => {
            // SAFETY: The family tells that the address is this long.
            let v4 = unsafe { address.cast::<sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Ok(Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into()))
        }
        libc::AF_INET6 if len >= size_of::<sockaddr_in6>() => {
            // SAFETY: The family tells that the address is this long.
            let v6 = unsafe { address.cast::<sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Ok(Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into()))
        }
        _ => Err(Invalid::Address),
    }
}

/// Returns the address of a peer as C has it, and its length.
pub(crate) fn to_c(peer: &PeerAddr) -> (sockaddr_storage, socklen_t) {
    match peer {
        PeerAddr::Tcp(addr) => {
            let addr = socket2::SockAddr::from(*addr);
            // SAFETY: The storage is at least as long as every address, and the address is plain bytes.
            let mut storage: sockaddr_storage = unsafe { zeroed() };
            // SAFETY: Both are valid for as many bytes as the address has, and do not overlap.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    addr.as_ptr().cast::<u8>(),
                    (&raw mut storage).cast::<u8>(),
                    (addr.len() as usize).min(size_of::<sockaddr_storage>()),
                );
            }
            (storage, addr.len())
        }
        _ => {
            // SAFETY: All zeros are a valid address of no family.
            let mut storage: sockaddr_storage = unsafe { zeroed() };
            storage.ss_family = libc::AF_UNIX as sa_family_t;
            (storage, size_of::<sa_family_t>() as socklen_t)
        }
    }
}

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
