//! The terminals of one page, on a network of their own.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    machine::{Machine, is_real},
    markdown::root,
    parts::{Part, Start},
};

/// The ports that the manuals name, which are used if the network cannot be a new one.
const PORTS: [u16; 6] = [3000, 8080, 8443, 9090, 9180, 12346];

/// The network that the commands of a page use.
#[derive(Debug)]
pub(crate) enum Network {
    /// A new one for each page, by `unshare` with these flags. With a new process namespace, all processes of the page
    /// end with the first.
    Private(&'static [&'static str]),
    /// That of this machine.
    Shared,
}

impl Network {
    pub(crate) fn find() -> Result<Self, String> {
        const NEW: [&[&str]; 2] = [
            &["--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"],
            &["--net", "--pid", "--fork", "--kill-child"],
        ];
        for flags in NEW {
            let mut command = Command::new("unshare");
            command.args(flags).args(["sh", "-c", "ip link set lo up"]).stdin(Stdio::null()).stderr(Stdio::null());
            if command.stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
                return Ok(Self::Private(flags));
            }
        }
        match PORTS.iter().find(|port| TcpListener::bind(("0.0.0.0", **port)).is_err()) {
            None => Ok(Self::Shared),
            Some(port) => Err(format!("cannot make a network namespace (unshare, ip), and port {port} is in use")),
        }
    }

    pub(crate) fn is_private(&self) -> bool {
        matches!(self, Self::Private(_))
    }
}

/// The line of a page, and what is wrong there.
pub(crate) type Failure = (usize, String);

/// A terminal: its directory, and how many parts were pasted.
#[derive(Debug)]
struct Terminal {
    directory: PathBuf,
    pasted: usize,
    /// The line of the last part in the file.
    line: usize,
    text: String,
    /// `true` if a server keeps running in it.
    is_busy: bool,
}

#[derive(Debug)]
pub(crate) struct Desk {
    child: Child,
    steps: Option<ChildStdin>,
    directory: PathBuf,
    terminals: Vec<Terminal>,
}

impl Desk {
    pub(crate) fn open(machine: &Machine, network: &Network) -> Result<Self, String> {
        let directory = machine.path("desk");
        let mut command = match network {
            Network::Private(flags) => {
                let mut command = Command::new("unshare");
                command.args(*flags).arg("bash");
                command
            }
            Network::Shared => Command::new("bash"),
        };
        command.arg(root().join("tests/commands/desk.sh")).arg(&directory);
        command.arg(if network.is_private() { "net" } else { "" });
        machine.prepare(&mut command, network.is_private());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("cannot start the terminals: {error}"))?;
        let (steps, output) = (child.stdin.take(), child.stdout.take());
        let desk = Self { child, steps, directory, terminals: Vec::new() };
        let mut line = String::new();
        let read = output.map(|output| BufReader::new(output).read_line(&mut line));
        if !matches!(read, Some(Ok(_))) || line != "up\n" {
            return Err(format!("cannot start the terminals: {line:?}"));
        }
        Ok(desk)
    }

    fn step(&mut self, step: &str, number: usize) -> Result<(), String> {
        let steps = self.steps.as_mut().ok_or("the terminals have ended")?;
        writeln!(steps, "{step} {number}").map_err(|error| format!("the terminals have ended: {error}"))
    }

    fn open_terminal(&mut self) -> Result<(), String> {
        let directory = self.directory.join(self.terminals.len().to_string());
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        self.step("open", self.terminals.len())?;
        self.terminals.push(Terminal { directory, pasted: 0, line: 0, text: String::new(), is_busy: false });
        Ok(())
    }

    /// Pastes a part, and waits until its commands have ended, or its server is ready.
    pub(crate) fn paste(&mut self, part: &Part) -> Result<(), Failure> {
        let last = self.terminals.last().map(|terminal| terminal.is_busy);
        match (part.start, last) {
            (Start::Stopped, Some(true)) => self.interrupt()?,
            (Start::Same | Start::Stopped, Some(false)) => {}
            _ => self.open_terminal().map_err(|error| (part.line, error))?,
        }
        let Some(terminal) = self.terminals.last_mut() else { return Ok(()) };
        let start = terminal.output().len();
        terminal.is_busy = part.is_ready.is_some();
        let pasted = terminal.send(part.line, &part.text);
        pasted.map_err(|error| (part.line, format!("cannot paste: {error}")))?;
        self.wait(|terminal| {
            let is_ready = part.is_ready.is_some_and(|text| terminal.output()[start..].contains(text));
            is_ready || terminal.has_ended()
        })
    }

    /// Types Ctrl-C, and waits until the server has ended.
    fn interrupt(&mut self) -> Result<(), Failure> {
        let last = self.terminals.len() - 1;
        let line = self.terminals[last].line;
        self.step("interrupt", last).map_err(|error| (line, error))?;
        self.terminals[last].is_busy = false;
        let limit = Instant::now() + Duration::from_secs(60);
        while !self.terminals[last].has_ended() {
            if Instant::now() > limit {
                return Err(self.report(line, "the server does not end after Ctrl-C"));
            }
            sleep(Duration::from_millis(20));
        }
        // It may end with a status of its own.
        let _ = fs::remove_file(self.terminals[last].directory.join("failed"));
        Ok(())
    }

    /// Waits for the last terminal, while all servers keep running and no command fails.
    fn wait(&self, is_done: impl Fn(&Terminal) -> bool) -> Result<(), Failure> {
        let limit = Duration::from_secs(if is_real() { 3600 } else { 60 });
        let end = Instant::now() + limit;
        loop {
            // In this order: what has failed was recorded before the part ended.
            let is_over = self.terminals.last().is_none_or(&is_done);
            for (number, terminal) in self.terminals.iter().enumerate() {
                if let Some((line, text)) = terminal.failure() {
                    return Err(self.report(line, &text));
                }
                if terminal.is_busy && terminal.has_ended() {
                    let text = format!("the server in terminal {} has ended", number + 1);
                    return Err(self.report(terminal.line, &text));
                }
            }
            if is_over {
                return Ok(());
            }
            if Instant::now() > end {
                let (line, command) = self.terminals.last().map_or((1, String::new()), Terminal::now);
                let text = format!("does not end, and does not write that it is ready, within {limit:?}: {command}");
                return Err(self.report(line, &text));
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Has each terminal look for what failed in the background, and checks that all servers are still running.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        for terminal in self.terminals.iter_mut().filter(|terminal| !terminal.is_busy) {
            let line = terminal.line;
            terminal.send(line, ":\n").map_err(|error| (line, error.to_string()))?;
        }
        let free = |terminal: &Terminal| terminal.is_busy || terminal.has_ended();
        self.wait(|_| self.terminals.iter().all(free))
    }

    /// The error, the commands and the end of what each terminal shows.
    fn report(&self, line: usize, error: &str) -> Failure {
        let mut text = error.to_owned();
        for (number, terminal) in self.terminals.iter().enumerate() {
            text += &format!("\n  terminal {}, from line {}:\n", number + 1, terminal.line);
            text.extend(terminal.text.lines().map(|line| format!("    $ {line}\n")));
            let output = terminal.output();
            let lines: Vec<&str> = output.lines().collect();
            text.extend(lines[lines.len().saturating_sub(30)..].iter().map(|line| format!("    | {line}\n")));
        }
        (line, text)
    }
}

impl Terminal {
    fn send(&mut self, line: usize, text: &str) -> std::io::Result<()> {
        (self.line, self.text, self.pasted) = (line, text.to_owned(), self.pasted + 1);
        // The terminal reads it when it has its name. The last command succeeds: `source` fails with none of its own.
        let new = self.directory.join("new");
        fs::write(&new, format!("{text}\n:\n"))?;
        fs::rename(new, self.directory.join(format!("{}.sh", self.pasted)))
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join("out")).unwrap_or_default()).into_owned()
    }

    fn has_ended(&self) -> bool {
        self.directory.join(format!("{}.done", self.pasted)).exists()
    }

    /// The command that was started last, and its line.
    fn now(&self) -> Failure {
        let now = fs::read_to_string(self.directory.join("now")).unwrap_or_default();
        let (line, command) = now.trim_end().split_once(' ').unwrap_or(("1", self.text.as_str()));
        (self.line + line.parse::<usize>().unwrap_or(1).saturating_sub(1), command.to_owned())
    }

    /// The first command that has failed.
    fn failure(&self) -> Option<Failure> {
        let failed = fs::read_to_string(self.directory.join("failed")).ok()?;
        let mut words = failed.lines().next()?.splitn(3, ' ');
        let (status, line, command) = (words.next()?, words.next()?.parse::<usize>().ok()?, words.next()?);
        Some(match status {
            "background" => (self.line, format!("a command in the background failed: {command}")),
            _ => (self.line + line.saturating_sub(1), format!("status {status}: {command}")),
        })
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // The end of its input ends all processes.
        self.steps = None;
        let limit = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < limit {
            sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
