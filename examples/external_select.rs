//! The server inside a program's own loop: one `select` over its descriptor, the keyboard, signals and a timer.
//!
//!     cargo run --release --example external_select
//!     curl http://127.0.0.1:8080/                # then type a line over there, and ask again
//!
//! No thread is started. However many connections there are, `select` sees one descriptor of them all, so that its
//! limit of 1,024 is never met. The handler borrows the program's own variables: it needs neither `Send` nor `'static`,
//! and no lock.
#![allow(unsafe_code)] // select(2) has no safe face in the standard library

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

/// A server inside the program's own select loop. Type a line, and it becomes the page; `quit` ends the program.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,
}

/// How long requests under way may take to end when the program does.
const GRACE: Duration = Duration::from_secs(5);

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
    // The program's own state. The handler below borrows it, and the loop changes it between two turns.
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
    println!("Type a line, and it becomes the page; `quit` ends the program.");

    loop {
        // Serve what there is to serve, without sleeping. The answer says how long sleeping is fine.
        let wait = server.turn()?;
        if server.is_done() {
            return Ok(());
        }
        let wait = wait.min(Wait::Until(tick)); // the earliest of all, so it is never `Forever` here

        let keyboard_fd = keyboard.as_ref().map(AsRawFd::as_raw_fd);
        let fds = [Some(server.as_raw_fd()), Some(signals.as_raw_fd()), keyboard_fd];
        let [_, signalled, pressed] = select(fds, wait.timeout(now()))?;

        if signalled {
            let _ = (&signals).read(&mut [0; 64])?; // however many they were
            server.stop_handle().shutdown(GRACE);
        }
        if pressed && let Some(stdin) = &mut keyboard {
            let mut some = [0; 4096];
            let n = stdin.read(&mut some)?;
            typed.extend_from_slice(&some[..n]);
            while let Some(end) = typed.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = typed.drain(..=end).collect();
                match String::from_utf8_lossy(&line).trim() {
                    "quit" => server.stop_handle().shutdown(GRACE),
                    text => *page.borrow_mut() = text.to_owned(),
                }
            }
            if n == 0 || typed.len() > 64 * 1024 {
                keyboard = None; // its end; the server goes on
            }
        }
        while tick <= now() {
            uptime.set(uptime.get() + 1);
            tick += Duration::from_secs(1);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a program reads the clock where its loop is")]
fn now() -> Instant {
    Instant::now()
}

/// A socket that becomes readable when the program is asked to end.
fn signals() -> io::Result<UnixStream> {
    let (told, tell) = UnixStream::pair()?;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        signal_hook::low_level::pipe::register(signal, tell.try_clone()?)?;
    }
    told.set_nonblocking(true)?;
    Ok(told)
}

/// Sleeps until one of the descriptors is readable, or for `timeout`; which of them are.
fn select<const N: usize>(fds: [Option<RawFd>; N], timeout: Option<Duration>) -> io::Result<[bool; N]> {
    // SAFETY: an fd_set is an array of integers, for which zero is a value; FD_ZERO says the same portably.
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
    // looked at; all descriptors are below `highest + 1` and open, since their owners are borrowed by the caller.
    let n = unsafe { libc::select(highest + 1, &raw mut set, ptr::null_mut(), ptr::null_mut(), timeout) };
    if n < 0 {
        let error = io::Error::last_os_error();
        // A signal: there may be something to read about it now, which the next round will tell.
        return if error.kind() == io::ErrorKind::Interrupted { Ok([false; N]) } else { Err(error) };
    }
    // SAFETY: `set` is initialised, and each `fd` was seen to be one of its bits above.
    Ok(fds.map(|fd| fd.is_some_and(|fd| unsafe { libc::FD_ISSET(fd, &raw const set) })))
}

/// Rounded **up** to whole microseconds: rounded down, the last fraction of one would be waited for by spinning.
fn timeval(timeout: Duration) -> libc::timeval {
    let micros = timeout.as_nanos().div_ceil(1000);
    libc::timeval {
        // An hour is as good as any longer time: coming back early is harmless.
        tv_sec: libc::time_t::try_from(micros / 1_000_000).unwrap_or(3600).min(3600),
        tv_usec: (micros % 1_000_000) as libc::suseconds_t,
    }
}
