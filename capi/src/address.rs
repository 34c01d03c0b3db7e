//! Socket addresses, between C and Rust.

use std::{
    mem::{size_of, zeroed},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use libc::{sa_family_t, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t};
use uncork::PeerAddr;

/// The address is of another family, or shorter than its family says.
#[derive(Debug)]
pub(crate) struct InvalidAddress;

/// Reads an address; `None` for NULL.
///
/// # Safety
/// A pointer that is not NULL must point to an address of `len` bytes, or as long as its family tells.
pub(crate) unsafe fn address(
    address: *const sockaddr,
    len: Option<usize>,
) -> Result<Option<SocketAddr>, InvalidAddress> {
    if address.is_null() {
        return Ok(None);
    }
    let len = len.unwrap_or(usize::MAX);
    if len < size_of::<sa_family_t>() {
        return Err(InvalidAddress);
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
        _ => Err(InvalidAddress),
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
