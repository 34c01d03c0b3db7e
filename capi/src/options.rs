//! The options of a daemon, as `variadic.c` and `MHD_OPTION_ARRAY` deliver them.

use std::{
    ffi::{c_int, c_void},
    fmt,
    mem::transmute,
    net::SocketAddr,
    os::fd::RawFd,
    ptr::with_exposed_provenance,
    time::Duration,
};

use uncork::Limits;

use crate::{
    address::{self, InvalidAddress},
    auth::Auth,
    logger::LogTo,
    strings::bytes_of,
    types::{FromC, Logger, NotifyConnection, RequestCompleted, Unescape, UriLog},
};

/// `struct MHD_OptionItem`. An option with two pointers has the first one in `value`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct OptionItem {
    option: c_int,
    value: isize,
    pointer: *mut c_void,
}

/// A callback of the program, with the pointer that it gets.
pub(crate) type Callback<F> = Option<(F, FromC<c_void>)>;

/// What the options of a daemon say.
pub(crate) struct Options {
    pub(crate) memory: Option<usize>,
    pub(crate) connections: Option<usize>,
    pub(crate) connections_per_address: Option<usize>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) socket: Option<RawFd>,
    pub(crate) pool: Option<u32>,
    pub(crate) reuse: Option<u32>,
    pub(crate) backlog: c_int,
    pub(crate) completed: Callback<RequestCompleted>,
    pub(crate) notify_connection: Callback<NotifyConnection>,
    pub(crate) uri_log: Callback<UriLog>,
    pub(crate) unescape: Callback<Unescape>,
    pub(crate) log: LogTo,
    pub(crate) auth: Auth,
    pub(crate) tls: TlsOptions,
}

/// What the options say about TLS: PEM, and words. Copies: the program may free its own after the start.
#[derive(Default)]
pub(crate) struct TlsOptions {
    /// Certificates and keys, in the order in which they were given: the first key belongs to the first certificate.
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) password: Option<Vec<u8>>,
    /// The certificates that sign those of clients.
    pub(crate) trust: Option<Vec<u8>>,
    /// `NULL` counts as not given.
    pub(crate) priorities: Vec<Vec<u8>>,
    /// The kind of credentials, by GnuTLS's number.
    pub(crate) credentials: Option<u32>,
    /// Options that need GnuTLS.
    pub(crate) of_gnutls: Vec<&'static str>,
}

/// The reason why the options cannot be followed.
#[derive(Debug)]
pub(crate) enum Invalid {
    Unknown(c_int),
    Address,
    Nested,
}

impl From<InvalidAddress> for Invalid {
    fn from(_: InvalidAddress) -> Self {
        Self::Address
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(option) => write!(f, "invalid option {option}: its arguments are not known"),
            Self::Address => f.write_str("invalid address: expected AF_INET or AF_INET6, and its full length"),
            Self::Nested => f.write_str("invalid option array: too many arrays within arrays"),
        }
    }
}

/// Arrays within arrays. More can only be a cycle.
const DEEPEST: usize = 8;
/// As long as the system allows: it takes the lower of this and its own limit.
const BACKLOG: c_int = 4096;

/// Makes a function pointer of an option's value; `None` for NULL.
macro_rules! callback {
    ($item:expr, $ty:ty) => {{
        let address = with_exposed_provenance::<c_void>($item.value.cast_unsigned());
        // SAFETY: By the contract of the interface the first argument of this option is a function of this type, or
        // NULL, which is `None`.
        let function = unsafe { transmute::<*const c_void, Option<$ty>>(address) };
        function.map(|function| (function, FromC($item.pointer)))
    }};
}

/// Returns a copy of the string that an option points to; `None` for NULL.
fn text(item: &OptionItem) -> Option<Vec<u8>> {
    // SAFETY: By the contract of the interface the argument of this option is NULL or a string that ends with NUL.
    unsafe { bytes_of(item.pointer.cast_const().cast()) }.map(<[u8]>::to_vec)
}

impl Options {
    pub(crate) fn new(flags: u32) -> Self {
        Self {
            memory: None,
            connections: None,
            connections_per_address: None,
            timeout: None,
            address: None,
            socket: None,
            pool: None,
            reuse: None,
            backlog: BACKLOG,
            completed: None,
            notify_connection: None,
            uri_log: None,
            unescape: None,
            log: LogTo::new(flags),
            auth: Auth::default(),
            tls: TlsOptions::default(),
        }
    }

    /// Reads options.
    pub(crate) fn read(&mut self, items: &[OptionItem], depth: usize) -> Result<(), Invalid> {
        for item in items {
            self.set(item, depth)?;
        }
        Ok(())
    }

    fn set(&mut self, item: &OptionItem, depth: usize) -> Result<(), Invalid> {
        // A program can have passed an `int`: then only the low half of the value is certain.
        let (low, number) = (item.value as u32, item.value as u32 as usize);
        let positive = Some(number).filter(|n| *n > 0);
        match item.option {
            1 => self.memory = positive,
            2 => self.connections = Some(number),
            3 => self.timeout = positive.map(|_| Duration::from_secs(low.into())),
            4 => self.completed = callback!(item, RequestCompleted),
            5 => self.connections_per_address = positive,
            // SAFETY: By the contract of the interface it points to the address, of a length that its family tells.
            6 => self.address = unsafe { address::address(item.pointer.cast(), None)? },
            7 => self.uri_log = callback!(item, UriLog),
            8 => self.tls.keys.extend(text(item)),
            9 => self.tls.certificates.extend(text(item)),
            10 => self.tls.credentials = Some(low),
            11 | 37 => self.tls.priorities.extend(text(item)),
            12 => self.socket = Some(item.value as RawFd).filter(|fd| *fd >= 0),
            13 => self.log.callback = callback!(item, Logger),
            14 => self.pool = Some(low),
            15 => self.read_array(item.pointer.cast(), depth)?,
            16 => self.unescape = callback!(item, Unescape),
            // SAFETY: By the contract of the interface it points to as many bytes as the first argument says.
            17 | 35 => unsafe { self.auth.mix_in(item.pointer.cast(), number) },
            18 => self.auth.slots = positive,
            20 => self.tls.trust = text(item),
            22 if !item.pointer.is_null() => self.tls.of_gnutls.push("MHD_OPTION_HTTPS_CERT_CALLBACK"),
            24 if !item.pointer.is_null() => self.tls.of_gnutls.push("MHD_OPTION_HTTPS_MEM_DHPARAMS"),
            26 => self.tls.password = text(item),
            30 if item.value != 0 => self.tls.of_gnutls.push("MHD_OPTION_GNUTLS_PSK_CRED_HANDLER"),
            31 if !item.pointer.is_null() => self.tls.of_gnutls.push("MHD_OPTION_HTTPS_CERT_CALLBACK2"),
            25 => self.reuse = Some(low),
            27 => self.notify_connection = callback!(item, NotifyConnection),
            28 => self.backlog = c_int::try_from(low).unwrap_or(BACKLOG),
            36 => self.auth.bind_to(low),
            41 if low > 0 => self.auth.nonce_timeout = low,
            42 if low > 0 => self.auth.max_nonce_count = low,
            // SAFETY: By the contract of the interface it points to as many bytes as the first argument says.
            40 => self.address = unsafe { address::address(item.pointer.cast(), Some(number))? },
            // What has no meaning here: the parser is always strict, memory is not a pool, sanity checks stay on,
            // SIGPIPE never arrives.
            21 | 22 | 24 | 29..=34 | 38 | 39 | 41..=43 => {}
            19 | 23 => self.log.line(&format_args!("option {} has no effect here", item.option)),
            other => return Err(Invalid::Unknown(other)),
        }
        Ok(())
    }

    fn read_array(&mut self, mut item: *const OptionItem, depth: usize) -> Result<(), Invalid> {
        if depth == DEEPEST {
            return Err(Invalid::Nested);
        }
        while !item.is_null() {
            // SAFETY: By the contract of the interface the array has an item with MHD_OPTION_END, and no item behind
            // that one is read.
            let read = unsafe { item.read() };
            if read.option == 0 {
                return Ok(());
            }
            self.set(&read, depth + 1)?;
            // SAFETY: The item was not the last one.
            item = unsafe { item.add(1) };
        }
        Ok(())
    }

    /// Returns the limits: the program's own where it has set them.
    pub(crate) fn limits(&self) -> Limits {
        // The original's pool of 32 KiB for each connection holds its head, too.
        let head = self.memory.unwrap_or(32 * 1024).clamp(1024, 1 << 20);
        let mut limits = Limits { head, target: head, fields: 256, body: u64::MAX, ..Limits::default() };
        if let Some(connections) = self.connections {
            limits.connections = connections;
        }
        limits.connections_per_address = match (self.connections_per_address, self.connections) {
            (Some(n), _) if n < limits.connections => n,
            (None, None) => limits.connections_per_address,
            // A program that limits all connections lets one address have them.
            _ => usize::MAX,
        };
        if let Some(timeout) = self.timeout {
            // The time without any activity: each byte restarts it.
            limits.min_rate = 0;
            limits.head_timeout = timeout;
            limits.idle_timeout = timeout;
            limits.body_timeout = timeout;
            limits.send_timeout = timeout;
        }
        limits
    }
}
