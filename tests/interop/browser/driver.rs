//! A real browser, driven by the WebDriver protocol (W3C WebDriver 2) over HTTP: Chromium through chromedriver, or
//! Firefox through geckodriver.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use uncork::client::{Client, Request};

/// Timeout of every step. A loaded machine starts a browser in seconds.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(90);

/// A key's code in WebDriver.
const TAB: char = '\u{e004}';

/// A name of this computer that is not a loopback address, for the browsers of the tests only.
pub(crate) const HOST: &str = "relay.example";

/// A directory, removed at the end.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("uncork-browser-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chromium,
    Firefox,
}

impl Kind {
    /// Returns the driver's program, the browser's possible names, and the text before the port in the driver's first
    /// output.
    fn names(self) -> (&'static str, &'static [&'static str], &'static str) {
        match self {
            Self::Chromium => {
                ("chromedriver", &["chromium", "chromium-browser", "google-chrome"], "started successfully on port ")
            }
            Self::Firefox => ("geckodriver", &["firefox", "firefox-esr"], "Listening on 127.0.0.1:"),
        }
    }

    /// Returns the capabilities of an empty browser with this directory for downloads.
    fn capabilities(self, profile: &str, downloads: &str) -> Value {
        match self {
            Self::Chromium => {
                let args = [
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-quic",
                    "--no-first-run",
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--disable-sync",
                    "--disable-dev-shm-usage",
                    "--window-size=1000,900",
                    &format!("--host-resolver-rules=MAP {HOST} 127.0.0.1"),
                    &format!("--user-data-dir={profile}"),
                ];
                json!({
                    "goog:chromeOptions": {"args": args, "prefs": {"download.default_directory": downloads}},
                    "goog:loggingPrefs": {"browser": "ALL"},
                })
            }
            Self::Firefox => json!({
                "moz:firefoxOptions": {
                    "args": ["-headless", "-profile", profile],
                    "prefs": {"browser.download.dir": downloads, "browser.download.folderList": 2,
                        "network.dns.localDomains": HOST},
                },
                // The driver waits for a link even if it turns out to be a download.
                "timeouts": {"pageLoad": 10_000},
            }),
        }
    }
}

/// Starts browsers.
pub(crate) struct Driver(Kind);

/// The driver's process, parent of the browser. A driver of Firefox drives only one.
struct Server {
    child: Child,
    client: Client,
    url: String,
}

impl Driver {
    /// Returns `None` if the browser or its driver is missing.
    pub(crate) fn find(kind: Kind) -> Option<Self> {
        let found = |name: &&str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
        };
        let (program, browsers, _) = kind.names();
        (found(&program) && browsers.iter().any(found)).then_some(Self(kind))
    }

    /// Starts an empty browser.
    pub(crate) fn browser(&self) -> Browser {
        let (profile, downloads) = (Dir::new(), Dir::new());
        let mut capabilities = self.0.capabilities(profile.path(), downloads.path());
        // A page that asks before it is closed is closed.
        capabilities["unhandledPromptBehavior"] = json!("accept");
        capabilities["acceptInsecureCerts"] = json!(true);
        let request = json!({"capabilities": {"alwaysMatch": capabilities}});
        let server = Server::start(self.0);
        let session = server.call("POST", "/session", Some(&request)).expect("a browser");
        let path = format!("/session/{}", session["sessionId"].as_str().expect("a session"));
        let pid =
            ["goog:processID", "moz:processID"].into_iter().find_map(|name| session["capabilities"][name].as_u64());
        Browser { kind: self.0, server, path, pid, downloads, _profile: profile }
    }
}

impl Server {
    /// Starts the driver on a port of its choice.
    ///
    /// ChromeDriver gets a port from the system for `::1` and needs the same one for `127.0.0.1`. If a connection that
    /// was closed a moment ago still has that one, the driver ends at once, and another port is needed.
    fn start(kind: Kind) -> Self {
        let mut said = Vec::new();
        for _ in 0..20 {
            match Self::try_start(kind) {
                Ok(server) => return server,
                Err(lines) => said = lines,
            }
        }
        panic!("{kind:?}: the driver names no port: {said:?}");
    }

    /// Returns what the driver said if it ends before it names its port.
    fn try_start(kind: Kind) -> Result<Self, Vec<String>> {
        let (program, _, before_port) = kind.names();
        let mut command = Command::new(program);
        let command = command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut said = Vec::new();
        for line in lines.by_ref() {
            let line = line.expect("text");
            if let Some((_, port)) = line.split_once(before_port) {
                let url = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
                // Its later output must be read.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self { child, client: Client::builder().build(), url });
            }
            said.push(line);
        }
        child.wait().expect("ended");
        Err(said)
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let mut call = Request::new(method, &format!("{}{path}", self.url)).timeout(TIMEOUT).head_timeout(TIMEOUT);
        if let Some(body) = body {
            call = call.header("Content-Type", "application/json").body(body.to_string());
        }
        let response = self.client.call_blocking(call).map_err(|error| format!("{method} {path}: {error}"))?;
        let mut value: Value = serde_json::from_slice(&response.body).map_err(|error| error.to_string())?;
        match response.status {
            200 => Ok(value["value"].take()),
            status => Err(format!("{method} {path}: {status} {}", value["value"]["message"])),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Browser {
    kind: Kind,
    server: Server,
    path: String,
    /// The process that is the parent of the others.
    pid: Option<u64>,
    pub(crate) downloads: Dir,
    _profile: Dir,
}

impl Browser {
    fn post(&self, what: &str, body: &Value) -> Result<Value, String> {
        self.server.call("POST", &format!("{}/{what}", self.path), Some(body))
    }

    /// Opens a page, and returns when a user would see it.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        // A link that differs only behind the "#" would be the same page.
        self.post("url", &json!({"url": "about:blank"})).expect("opened");
        self.go(url).expect("opened");
        // A browser may ignore keys and clicks until it has painted the page, which may be after the load event.
        until("the first paint", || {
            let painted = self.run("return performance.getEntriesByType('paint').length > 0", &[]);
            (painted == true).then_some(())
        });
    }

    pub(crate) fn go(&self, url: &str) -> Result<Value, String> {
        self.post("url", &json!({"url": url}))
    }

    /// Opens a new tab. The calls that follow are for it.
    #[track_caller]
    pub(crate) fn tab(&self) -> String {
        let tab = self.post("window/new", &json!({"type": "tab"})).expect("a tab")["handle"].take();
        let tab = tab.as_str().expect("its name").to_owned();
        self.switch(&tab);
        tab
    }

    /// Makes the calls that follow be for this tab.
    #[track_caller]
    pub(crate) fn switch(&self, tab: &str) {
        self.post("window", &json!({"handle": tab})).expect("switched");
    }

    /// Returns the result of a script.
    #[track_caller]
    pub(crate) fn run(&self, script: &str, args: &[Value]) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": args})).expect("run")
    }

    /// Runs a script in every page before its own. Returns `false` if the browser cannot.
    #[track_caller]
    pub(crate) fn before_load(&self, script: &str) -> bool {
        let params = json!({"source": script});
        let command = json!({"cmd": "Page.addScriptToEvaluateOnNewDocument", "params": params});
        self.kind == Kind::Chromium && self.post("goog/cdp/execute", &command).map(|_| true).expect("added")
    }

    fn element(&self, selector: &str) -> Result<String, String> {
        let found = self.post("element", &json!({"using": "css selector", "value": selector}))?;
        let id = found.as_object().and_then(|found| found.values().next()?.as_str());
        id.map(str::to_owned).ok_or_else(|| format!("no {selector}"))
    }

    /// Clicks as a user does: on a visible element.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector).expect("there");
        self.post(&format!("element/{element}/click"), &json!({})).expect("clicked");
    }

    /// Types a text, or chooses a file.
    #[track_caller]
    pub(crate) fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector).expect("there");
        self.post(&format!("element/{element}/value"), &json!({"text": text})).expect("typed");
    }

    /// Presses a key, on the element that has the focus.
    #[track_caller]
    pub(crate) fn press(&self, key: char) {
        let keys = [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": keys}]});
        self.post("actions", &actions).expect("pressed");
    }

    /// Returns the id or the text of the element that has the focus; empty if none has it.
    #[track_caller]
    pub(crate) fn focus(&self) -> String {
        let script = "const it = document.activeElement; return it === document.body ? '' : it.id || it.textContent";
        self.run(script, &[]).as_str().unwrap_or_default().to_owned()
    }

    /// Presses the Tab key and returns what has the focus then. If the focus has not moved within a second, the key was
    /// lost: it is pressed again, as a user would do.
    #[track_caller]
    pub(crate) fn tab_key(&self) -> String {
        let before = self.focus();
        until("the focus moves", || {
            self.press(TAB);
            let end = Instant::now() + Duration::from_secs(1);
            loop {
                let focus = self.focus();
                if focus != before {
                    return Some(focus);
                }
                if Instant::now() > end {
                    return None;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    }

    /// Presses a key while another key is held.
    #[track_caller]
    pub(crate) fn chord(&self, held: char, key: char) {
        let [down, up] = ["keyDown", "keyUp"].map(|what| move |key: char| json!({"type": what, "value": key}));
        let keys = [down(held), down(key), up(key), up(held)];
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": keys}]});
        self.post("actions", &actions).expect("pressed");
    }

    /// Returns the readable text of the page.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        self.run("return document.body.innerText", &[]).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows this text.
    #[track_caller]
    pub(crate) fn shows(&self, what: &str) {
        until(what, || self.text().contains(what).then_some(()));
    }

    /// Returns the bytes of memory of all its processes, shared memory counted once; `None` where the system does not
    /// report it.
    pub(crate) fn memory(&self) -> Option<u64> {
        let number = |text: &str| text.split_whitespace().next()?.parse::<u64>().ok();
        let mut of = HashMap::<u64, Vec<u64>>::new();
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(number) else { continue };
            // pid (name) state parent …; a name may contain anything.
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat.rsplit_once(')').and_then(|(_, rest)| number(rest.trim_start().split_once(' ')?.1));
            of.entry(parent?).or_default().push(pid);
        }
        let (mut family, mut sum) = (vec![self.pid?], 0);
        while let Some(pid) = family.pop() {
            family.extend(of.remove(&pid).unwrap_or_default());
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            sum += rollup.lines().find_map(|line| number(line.strip_prefix("Pss:")?)).unwrap_or_default() * 1024;
        }
        (sum > 0).then_some(sum)
    }

    /// Returns the requests to other servers than the relay, since the page was opened.
    #[track_caller]
    pub(crate) fn third_parties(&self) -> Value {
        let script = "return performance.getEntriesByType('resource').map((entry) => entry.name)
            .filter((name) => new URL(name).origin !== location.origin)";
        self.run(script, &[])
    }

    /// Returns the browser's warnings and errors since the last call, if it reports them.
    #[track_caller]
    pub(crate) fn warnings(&self) -> Vec<String> {
        if self.kind == Kind::Firefox {
            return Vec::new();
        }
        let log = self.post("se/log", &json!({"type": "browser"})).expect("a log");
        let entries = log.as_array().into_iter().flatten();
        entries.filter_map(|entry| entry["message"].as_str().map(str::to_owned)).collect()
    }

    /// Waits for a download. Its temporary name does not matter.
    #[track_caller]
    pub(crate) fn downloaded(&self, name: &str) -> PathBuf {
        let path: &Path = &self.downloads.0;
        // Firefox does not allow a percent sign in a name.
        let name = if self.kind == Kind::Firefox { &name.replace('%', "_") } else { name };
        until(name, || Some(path.join(name)).filter(|file| file.is_file()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.server.call("DELETE", &self.path, None);
    }
}

/// Polls until there is a result.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(Instant::now() < end, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
