//! Reads settings from flags and file, and prints them as a file with comments.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, builder::ValueParser};

use super::{
    Failure,
    common::certificate,
    files, fitting,
    listen::{self, Listen},
    settings::{self, Setting, Settings},
};

const AFTER_HELP: &str = "\
Every flag is also a setting of the file: run with --print-config > relay.toml, then with --config relay.toml. Flags override
the file. SIGHUP reads file and certificates again. SIGTERM and SIGINT finish requests in progress and stop; a second signal
stops at once. The address, opened in a browser, shows how to use the relay.";

/// The flags.
pub(crate) fn command() -> Command {
    let defaults = Settings::default();
    let mut command = Command::new("relay")
        .about("A relay for HTTP: two clients exchange bodies through a URL")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(AFTER_HELP)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("File of settings, in TOML"),
        )
        .arg(
            Arg::new("tls-self-made")
                .long("tls-self-made")
                .value_name("DIR")
                .num_args(0..=1)
                .value_parser(clap::value_parser!(PathBuf))
                .conflicts_with("tls-cert")
                .help_heading("Server")
                .help(
                    "For tests: HTTPS with a self-signed certificate for localhost, kept in this directory (cert.pem, key.pem) \
                     and made if missing [default: uncork in $XDG_STATE_HOME or ~/.local/state]",
                ),
        )
        .arg(flag("check-config", "Check the settings and certificates, and exit"))
        .arg(flag("print-config", "Print all settings as a file with comments, and exit"))
        .arg(
            Arg::new("listen")
                .long("listen")
                .value_name("ADDR")
                .action(ArgAction::Append)
                .value_parser(ValueParser::from(|text: &str| text.parse::<Listen>()))
                .help_heading("Server")
                .help(format!(
                    "Address and port to listen on (port 0: chosen by the system), unix:PATH, systemd or systemd:NAME; options \
                     follow after commas: tls=BOOL, tls-cert=FILE, tls-key=FILE, proxy-protocol; may be repeated \
                     [default: {}]",
                    listen::DEFAULT
                )),
        );
    for setting in settings::all() {
        let mut arg = Arg::new(setting.flag)
            .long(setting.flag)
            .value_name(setting.hint)
            .help_heading(heading(setting.section))
            .help(help(&setting, &defaults))
            .action(if setting.many { ArgAction::Append } else { ArgAction::Set })
            .value_parser(setting.parser());
        if let Some(alone) = setting.alone {
            // The program has no positional arguments, so what follows this flag is its value.
            arg = arg.num_args(0..=1).default_missing_value(alone);
        }
        command = command.arg(arg);
    }
    command
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// Returns the heading of a section in the list of flags.
fn heading(section: &str) -> &'static str {
    match section {
        "server" | "tls" => "Server",
        "proxies" => "Proxies in front",
        "limits" => "Limits",
        "cors" => "Web pages",
        "sessions" => "Session relay",
        "rendezvous" => "Rendezvous",
        "gateway" => "Gateway",
        "tunnel" => "Reverse tunnel",
        "node" | "directory" => "Several machines",
        "page" => "Page",
        "admin" => "Administration",
        _ => "Logs",
    }
}

fn help(setting: &Setting, defaults: &Settings) -> String {
    let about: Vec<&str> = setting.about.iter().map(|line| line.trim()).collect();
    let repeated = if setting.many { "; may be repeated" } else { "" };
    match (setting.show)(defaults).trim_matches('"') {
        "" | "[]" => format!("{}{repeated}", about.join(" ")),
        default => format!("{}{repeated} [default: {default}]", about.join(" ")),
    }
}

/// Reads the settings from the flags and the file that they name.
pub(crate) fn load(flags: &ArgMatches) -> Result<Settings, Failure> {
    let mut settings = match flags.get_one::<PathBuf>("config") {
        Some(path) => read(path)?,
        None => Settings::default(),
    };
    if let Some(listen) = flags.get_many::<Listen>("listen") {
        settings.listen = listen.cloned().collect();
    }
    if flags.value_source("log-level").is_none()
        && let Ok(level) = std::env::var("RUST_LOG")
        && !level.is_empty()
    {
        settings.log.level = level.parse().map_err(|error| Failure::config(format!("variable RUST_LOG: {error}")))?;
    }
    for setting in settings::all() {
        if let Some(values) = flags.get_many::<String>(setting.flag) {
            let values: Vec<&str> = values.map(String::as_str).collect();
            (setting.set)(&mut settings, &values)
                .map_err(|error| Failure::config(format!("--{}: {error}", setting.flag)))?;
        }
    }
    if is_self_made(flags) {
        let named = flags.get_one::<PathBuf>("tls-self-made").map(PathBuf::as_path);
        let made = certificate::directory(named).and_then(|dir| certificate::self_made(&dir));
        let made = made.map_err(Failure::system_message)?;
        (settings.tls.cert, settings.tls.key) = (made.cert, made.key);
        // On SIGHUP. At the start there is no log yet, and `run` reports it.
        if made.is_new {
            report_self_made(&settings);
        }
    }
    fitting::lower_defaults(&mut settings);
    Ok(settings)
}

/// Returns `true` if the certificate is one that the program makes.
pub(crate) fn is_self_made(flags: &ArgMatches) -> bool {
    flags.contains_id("tls-self-made")
}

/// Logs which certificate clients must trust.
pub(crate) fn report_self_made(settings: &Settings) {
    log::info!("{}", certificate::must_trust(&settings.tls.cert));
}

fn read(path: &Path) -> Result<Settings, Failure> {
    let from = path.to_owned();
    let text = files::with_timeout(&format!("--config {}", path.display()), move || {
        let text = std::fs::read_to_string(&from)?;
        // An empty file means the defaults; a pipe that was read before must not.
        match text.is_empty() && !std::fs::metadata(&from)?.is_file() {
            true => Err(std::io::Error::other("it is empty, and a pipe can be read only once")),
            false => Ok(text),
        }
    });
    let text = text
        .map_err(Failure::config)?
        .map_err(|error| Failure::config(format!("cannot read --config {}: {error}", path.display())))?;
    parse(&text).map_err(|error| Failure::config(format!("{}: {error}", path.display())))
}

/// Parses the text of a file. An error names the line.
pub(crate) fn parse(text: &str) -> Result<Settings, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let message = error.to_string().trim_end().to_owned();
        match error.span().and_then(|span| setting_at(text, span.start)) {
            Some(setting) => setting.worded(message),
            None => message,
        }
    })
}

/// Returns the setting whose value is at this offset of the file, if it is on one line.
fn setting_at(text: &str, at: usize) -> Option<Setting> {
    let (before, start) = (text.get(..at)?, text.get(..at)?.rfind('\n').map_or(0, |end| end + 1));
    let section = before.lines().rev().find_map(|line| line.trim().strip_prefix('[')?.split(']').next())?;
    let key = text.get(start..)?.split('=').next()?.trim();
    settings::all().into_iter().find(|setting| setting.section == section && setting.key == key)
}

/// Returns the settings as a file with comments.
pub(crate) fn print(settings: &Settings) -> String {
    let mut out = String::from("# Settings of the relay. Each is also a flag; flags override this file.\n\n");
    out += listen::ABOUT;
    for listen in listen::wanted(settings) {
        out += &listen.toml();
    }
    let all = settings::all();
    for (section, about) in settings::SECTIONS {
        out += "\n";
        about.iter().for_each(|line| out += &format!("#{}\n", line.trim_end()));
        out += &format!("[{section}]\n");
        for setting in all.iter().filter(|setting| setting.section == *section) {
            setting.about.iter().for_each(|line| out += &format!("#{}\n", line.trim_end()));
            let repeated = if setting.many { ", may be repeated" } else { "" };
            let hint = if setting.alone.is_some() { format!("[{}]", setting.hint) } else { setting.hint.to_owned() };
            out += &format!("# Flag: --{} {hint}{repeated}\n", setting.flag);
            out += &format!("{} = {}\n\n", setting.key, (setting.show)(settings));
        }
        out.pop();
    }
    out
}

/// Returns the names of the settings that differ.
pub(crate) fn differences(old: &Settings, new: &Settings) -> Vec<String> {
    let differ = |setting: &Setting| (setting.show)(old) != (setting.show)(new);
    let mut names: Vec<String> = settings::all().iter().filter(|s| differ(s)).map(Setting::name).collect();
    if listen::wanted(old) != listen::wanted(new) {
        names.insert(0, "listen".to_owned());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &[&str]) -> Settings {
        load(&command().try_get_matches_from([&["relay"], words].concat()).expect("flags")).expect("settings")
    }

    #[test]
    fn the_flags_are_in_order() {
        command().debug_assert();
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        let wanted = |settings: &Settings| Settings { listen: listen::wanted(settings), ..settings.clone() };
        let default = Settings::default();
        assert_eq!(parse(&print(&default)), Ok(wanted(&default)));
        let other = flags(&[
            "--listen=127.0.0.1:1,proxy-protocol,tls-cert=a \"b\".pem,tls-key=k.pem",
            "--listen=unix:/run/x.sock,tls=false",
            "--mode=external",
            "--max-body=5G",
            "--trusted-proxy=10.0.0.0/8",
            "--trusted-proxy=unix",
            "--allowed-origin=https://example.org",
            "--abort-if-truncated",
            "--access-log",
            "--server-name=a\\b\"c",
            "--session-ttl=7",
        ]);
        assert_eq!(parse(&print(&other)), Ok(wanted(&other)));
        assert!(other.sessions.abort_if_truncated && other.proxies.trusted.len() == 2);
        assert_ne!(other, default);
    }

    #[test]
    fn flags_go_before_the_file() {
        let dir = std::env::temp_dir().join(format!("uncork-config-{}.toml", std::process::id()));
        std::fs::write(&dir, "[server]\nshutdown-timeout = 3\nthreads = 2\n[sessions]\nabort-if-truncated = true\n")
            .expect("written");
        let file = dir.to_str().expect("text");
        let settings = flags(&["--config", file, "--shutdown-timeout", "4", "--abort-if-truncated=false"]);
        assert_eq!((settings.server.shutdown_timeout, settings.server.threads.0), (4, 2));
        assert!(!settings.sessions.abort_if_truncated);
        std::fs::remove_file(&dir).expect("removed");
    }

    #[test]
    fn every_flag_works_as_it_is_documented() {
        let printed = print(&Settings::default());
        let help = command().render_long_help().to_string();
        let all = settings::all();
        for setting in &all {
            let hint = setting.hint;
            let (line, words) = match setting.alone {
                Some(_) => (format!("# Flag: --{} [{hint}]", setting.flag), format!("--{} [<{hint}>]", setting.flag)),
                None => (format!("# Flag: --{} {hint}", setting.flag), format!("--{} <{hint}>", setting.flag)),
            };
            assert!(printed.contains(&format!("{line}\n")) || printed.contains(&format!("{line}, may")), "{line}");
            assert!(help.contains(&words), "{words}");
            let show = |settings: &Settings| (setting.show)(settings);
            let default = show(&Settings::default());
            let value = match (hint, default.trim_matches('"')) {
                ("NETWORK", _) => "10.0.0.0/8",
                ("ORIGIN", _) => "https://example.org",
                ("FIELD", "[]") => "X-Zone: a",
                ("ADDR", "[]") => "ber2.example:8443",
                ("NODE", _) => "ber2 http://10.0.0.2:7001",
                ("URL", "[]") => "redis://10.0.0.2:26379",
                ("HOST:PORT", "[]") => "10.0.0.2:6379",
                ("TOKEN", _) => "app 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 app.example",
                (_, value) => value,
            };
            let flag = format!("--{}", setting.flag);
            let (spaced, joined) = (flags(&[&flag, value]), flags(&[&format!("{flag}={value}")]));
            assert_eq!(spaced, joined, "{flag}");
            if setting.many {
                assert!(show(&spaced).contains(value) && show(&flags(&[&flag, value, &flag, value])) != show(&spaced));
            } else {
                assert_eq!(show(&spaced), default, "{flag}");
            }
            if let Some(alone) = setting.alone {
                assert_eq!(
                    flags(&[&flag, "--shutdown-timeout=1"]),
                    flags(&[&flag, alone, "--shutdown-timeout=1"]),
                    "{flag}"
                );
            }
        }
        let off: Vec<&str> = all.iter().filter(|s| s.hint == "BOOL").map(|s| s.flag).collect();
        assert!(off.contains(&"session-relay"));
        assert!(!flags(&["--session-relay", "false"]).sessions.enabled);
    }

    #[test]
    fn a_mistake_in_the_file_is_named_with_its_line() {
        for (text, words) in [
            ("[server]\nshutdown-timout = 3\n", ["line 2", "shutdown-timout"]),
            ("[severs]\n", ["line 1", "severs"]),
            ("[server]\n\nmode = \"fast\"\n", ["line 3", "thread-per-connection"]),
            ("[server]\nshutdown-timeout = \"long\"\n", ["line 2", "shutdown-timeout"]),
            ("[limits]\nmax-body = \"5 apples\"\n", ["line 2", "apples"]),
            ("[proxies]\ntrusted = [\"10.0.0.1/8\"]\n", ["line 2", "10.0.0.1/8"]),
            ("[[listen]]\naddress = \"x:1\"\ntsl = true\n", ["line 3", "tsl"]),
            ("[[listen]]\naddress = \"127.0.0.1:99999\"\n", ["line 2", "99999"]),
            ("[[listen]]\naddress = \"unix:\"\n", ["line 2", "unix:/run"]),
            ("[server]\nthreads = 5000\n", ["line 2", "1024"]),
            ("[rendezvous]\nlimit = 0\n", ["line 2", "expected a number, at least 1"]),
            ("[sessions]\nttl = 0\n", ["line 2", "expected a number of seconds, at least 1"]),
            ("[limits]\nidle-timeout = 0\n", ["line 2", "expected a number of seconds, at least 1"]),
            ("[limits]\nidle-timeout = \"1m\"\n", ["line 2", "expected a number of seconds, at least 1"]),
            ("[server]\nshutdown-timeout = -1\n", ["line 2", "expected a number of seconds, at least 0"]),
            ("[sessions]\nper-address = \"100\"\n", ["line 2", "expected a number, at least 1"]),
            ("[listen]\naddress = \"127.0.0.1:1\"\n", ["line 1", "expected [[listen]]"]),
            ("listen = [\"127.0.0.1:1\"]\n", ["line 1", "expected [[listen]]"]),
            ("listen = \"127.0.0.1:1\"\n", ["line 1", "expected [[listen]]"]),
            ("[rendezvous]\nbase-path = \"x\"\n", ["line 2", "slash"]),
            ("[sessions]\nserver-name = \"a\\nb\"\n", ["line 2", "printable"]),
            ("[cors]\nallowed-origins = [\"example.org\"]\n", ["line 2", "origin"]),
            ("[gateway]\nconnect-url = \"ftp://x/\"\n", ["line 2", "ftp://x/"]),
            ("[gateway]\nset-fields = [\"x\"]\n", ["line 2", "Name: value"]),
            ("[node]\nid = \"node-one\"\n", ["line 2", "1 to 6 letters"]),
            ("[node]\nnodes = [\"a http://b\"]\n", ["line 2", "http://HOST:PORT"]),
            ("[admin]\nlisten = \"127.0.0.1\"\n", ["line 2", "127.0.0.1:9090"]),
            ("[log]\nlevel = \"loud\"\n", ["line 2", "loud"]),
            ("x = [", ["line 1", "array"]),
        ] {
            let error = parse(text).expect_err(text);
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
    }

    #[test]
    fn differences_are_named() {
        let old = Settings::default();
        assert!(differences(&old, &old).is_empty());
        let new = flags(&["--shutdown-timeout=1", "--listen=127.0.0.1:1"]);
        assert_eq!(differences(&old, &new), ["listen", "server.shutdown-timeout"]);
    }
}
