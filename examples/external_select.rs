//! Runs the server inside a program's own loop: one `select` for its descriptor, the keyboard, signals and a timer.
//!
//!     (echo 'Good morning.'; cat) | cargo run --release --example external_select
//!     # in another terminal; then type a line in the first, and repeat:
//!     curl http://127.0.0.1:8080/
//!
//! No thread is started. The server has one descriptor for all its connections, so `select`'s limit of 1,024 does not
//! matter. The handler borrows the program's own variables: it needs neither `Send` nor `'static`,
//! and no lock.
#![allow(unsafe_code)] // the standard library has no safe select(2)

use std::{
    cell::{Cell, RefCell},
    fs::File,
    io::{self, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
    ptr,
    time::{Duration, Instant},
};

use clap::Parser;
use uncork::{Request, Response, Server, Wait};

/// A server inside the program's own select loop. Each line you type becomes the page; `quit` ends the program.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Address and port to listen on; port 0 is chosen by the system
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,
}

/// Time for requests to finish when the program stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    env_logger::init();
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    // The program's own state: the handler borrows it, and the loop changes it between two turns.
    let (page, uptime, requests) = (RefCell::new("Nothing was typed yet.".to_owned()), Cell::new(0), Cell::new(0));

    let bound = Server::bind(&*args.listen);
    let bound = bound.map_err(|error| io::Error::new(error.kind(), format!("--listen {}: {error}", args.listen)))?;
    let mut server = bound.external(|_: &mut Request<'_>| {
        requests.set(requests.get() + 1);
        Response::text(format!("{}\n\nrequest {}, up {} s\n", page.borrow(), requests.get(), uptime.get()))
    })?;
    let mut keyboard = Some(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    let mut typed = Vec::new();
    let signals = signals()?;
    let mut tick = now() + Duration::from_secs(1);
    if let Some(addr) = server.local_addr() {
        println!("listening on http://{addr}");
    }
    println!("Each line you type becomes the page; `quit` ends the program.");

    loop {
        // Serve pending events without sleeping. The result is how long the loop may sleep.
        let wait = server.turn()?;
        if server.is_done() {
            return Ok(());
        }
        let wait = wait.min(Wait::Until(tick)); // never `Forever`, since the tick is a deadline

        let keyboard_fd = keyboard.as_ref().map(AsRawFd::as_raw_fd);
        let fds = [Some(server.as_raw_fd()), Some(signals.as_raw_fd()), keyboard_fd];
        let [_, signalled, pressed] = select(fds, wait.timeout(now()))?;

        if signalled {
            let _ = (&signals).read(&mut [0; 64])?; // one or several signals
            server.stop_handle().shutdown(SHUTDOWN_TIMEOUT);
        }
        if pressed && let Some(stdin) = &mut keyboard {
            let mut some = [0; 4096];
            let n = stdin.read(&mut some)?;
            typed.extend_from_slice(&some[..n]);
            while let Some(end) = typed.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = typed.drain(..=end).collect();
                match String::from_utf8_lossy(&line).trim() {
                    "quit" => server.stop_handle().shutdown(SHUTDOWN_TIMEOUT),
                    text => *page.borrow_mut() = text.to_owned(),
                }
            }
            if n == 0 || typed.len() > 64 * 1024 {
                keyboard = None; // end of input; the server continues
            }
        }
        while tick <= now() {
            uptime.set(uptime.get() + 1);
            tick += Duration::from_secs(1);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the loop of the program reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Returns a socket that becomes readable at SIGINT or SIGTERM.
fn signals() -> io::Result<UnixStream> {
    let (receiver, sender) = UnixStream::pair()?;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    receiver.set_nonblocking(true)?;
    Ok(receiver)
}

/// Sleeps until a descriptor is readable, or for `timeout`. Returns which descriptors are readable.
fn select<const N: usize>(fds: [Option<RawFd>; N], timeout: Option<Duration>) -> io::Result<[bool; N]> {
    // SAFETY: an fd_set is an array of integers, for which zero is a value; FD_ZERO sets it portably.
    let mut set: libc::fd_set = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut highest = -1;
    for fd in fds.into_iter().flatten() {
        assert!((0..libc::FD_SETSIZE as RawFd).contains(&fd), "descriptor {fd} does not fit into an fd_set");
        // SAFETY: `set` is initialised, and `fd` was just seen to be one of its bits.
        unsafe { libc::FD_SET(fd, &raw mut set) };
        highest = highest.max(fd);
    }
    let mut timeout = timeout.map(timeval);
    let timeout = timeout.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: `set` and, if it is not null, `timeout` are valid and ours alone during the call; null sets are not
    // accessed; all descriptors are below `highest + 1` and open, since their owners are borrowed by the caller.
    let n = unsafe { libc::select(highest + 1, &raw mut set, ptr::null_mut(), ptr::null_mut(), timeout) };
    if n < 0 {
        let error = io::Error::last_os_error();
        // A signal interrupted the call; the next round reads it.
        return if error.kind() == io::ErrorKind::Interrupted { Ok([false; N]) } else { Err(error) };
    }
    // SAFETY: `set` is initialised, and each `fd` was seen to be one of its bits above.
    Ok(fds.map(|fd| fd.is_some_and(|fd| unsafe { libc::FD_ISSET(fd, &raw const set) })))
}

/// Rounds **up** to microseconds. Rounding down would make the loop spin during the last fraction of one.
fn timeval(timeout: Duration) -> libc::timeval {
    let micros = timeout.as_nanos().div_ceil(1000);
    libc::timeval {
        // One hour at most: returning early is harmless.
        tv_sec: libc::time_t::try_from(micros / 1_000_000).unwrap_or(3600).min(3600),
        tv_usec: (micros % 1_000_000) as libc::suseconds_t,
    }
}
