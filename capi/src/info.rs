//! Information about daemons and connections, for C.
//!
//! The functions are variadic in C and no argument behind the type is read. A function that reads no variadic argument
//! is called like one that has none.

use std::{
    ffi::{c_int, c_uchar},
    ptr::null,
    sync::atomic::Ordering,
};

use libc::size_t;

use crate::{
    address,
    connection::MHD_Connection,
    daemon::MHD_Daemon,
    info_cell::{ConnectionInfos, Info},
};

fn daemon_info(daemon: &MHD_Daemon, info: usize) -> Option<*const Info> {
    let cell = daemon.infos.get(info)?;
    match info {
        2 => Some(cell.set(&daemon.listen_fd()?.to_ne_bytes())),
        3 => Some(cell.set(&daemon.own_loop()?.fd.to_ne_bytes())),
        4 => {
            let count = u32::try_from(daemon.shared.connections.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
            Some(cell.set(&count.to_ne_bytes()))
        }
        5 => Some(cell.set(&daemon.shared.flags.to_ne_bytes())),
        6 => Some(cell.set(&daemon.port.to_ne_bytes())),
        // Sizes of keys mean nothing.
        _ => None,
    }
}

fn connection_info(connection: &MHD_Connection, info: usize) -> Option<*const Info> {
    let infos = connection.infos.get_or_init(|| {
        Box::new(ConnectionInfos { by_type: Default::default(), address: address::to_c(&connection.peer) })
    });
    let cell = infos.by_type.get(info)?;
    match info {
        0 => Some(cell.set(&connection.tls.get()?.cipher?.to_ne_bytes())),
        1 => Some(cell.set(&connection.tls.get()?.version?.to_ne_bytes())),
        2 => Some(cell.set_pointer(&raw const infos.address.0)),
        5 => Some(cell.set_pointer(connection.shared.daemon.load(Ordering::Acquire))),
        6 => connection.fd.map(|fd| cell.set(&fd.to_ne_bytes())),
        // SAFETY: The program may ask in callbacks of this connection only, which do not run at the same time.
        7 => Some(cell.set_pointer(unsafe { *connection.socket_context.get() })),
        8 => Some(cell.set(&i32::from(connection.state().suspension.suspended).to_ne_bytes())),
        9 => Some(cell.set(&connection.timeout.load(Ordering::Relaxed).to_ne_bytes())),
        10 => {
            // The fields, each with ": " and its line end.
            let mut size = 0_usize;
            connection.state().each_field(|name, value| size += name.len() + value.len() + 4);
            Some(cell.set(&size.to_ne_bytes()))
        }
        11 => {
            let status = connection.state().status;
            (status != 0).then(|| cell.set(&u32::from(status).to_ne_bytes()))
        }
        // 3 and 4 are objects of GnuTLS.
        _ => None,
    }
}

export! {
    /// Returns information about a daemon; NULL if there is none of this type.
    fn MHD_get_daemon_info(daemon: *const MHD_Daemon, info: c_int) -> *const Info, or null(); {
        // SAFETY: By the contract of the interface it is NULL or a daemon.
        let daemon = unsafe { MHD_Daemon::of_c(daemon) };
        daemon.zip(usize::try_from(info).ok()).and_then(|(daemon, info)| daemon_info(daemon, info)).unwrap_or(null())
    }
}

export! {
    /// Returns information about a connection; NULL if there is none of this type.
    fn MHD_get_connection_info(connection: *const MHD_Connection, info: c_int) -> *const Info, or null(); {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let connection = unsafe { MHD_Connection::of_c(connection) };
        let known = connection.zip(usize::try_from(info).ok());
        known.and_then(|(connection, info)| connection_info(connection, info)).unwrap_or(null())
    }
}

export! {
    /// Returns the certificate of the client (DER), which was verified with `MHD_OPTION_HTTPS_MEM_TRUST`, and its size.
    /// NULL if the client has sent none. It stays as long as the connection.
    fn uncork_connection_client_certificate(connection: *const MHD_Connection, size: *mut size_t) -> *const c_uchar,
        or null(); {
        // SAFETY: By the contract of the interface it is NULL or a connection.
        let tls = unsafe { MHD_Connection::of_c(connection) }.and_then(|connection| connection.tls.get());
        let certificate = tls.and_then(|tls| tls.client_certificate.as_deref());
        if !size.is_null() {
            // SAFETY: By the contract of the interface it is NULL or can be written.
            unsafe { size.write(certificate.map_or(0, <[u8]>::len)) };
        }
        certificate.map_or(null(), <[u8]>::as_ptr)
    }
}
