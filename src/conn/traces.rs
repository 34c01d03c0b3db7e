//! Runs every trace in `tests/traces/*.txt` in pieces of 1, of 2, ... up to all at once.
//!
//! ```text
//! # a comment
//! >  what the peer sends                         escapes: \r \n \t \0 \\ \xNN; {100*a} is a hundred times a
//! >> like `>`, but always in one piece
//! !  what the application does                   see `act`
//! <  what the peer gets since the last `<`       Date: @ is the date; several lines are one
//! =  the state of the connection                 see `Harness::state`
//! ```
//!
//! `>` and `!` take effect at the next `<` or `=`: first the acts, then the input, piece by piece.

use std::{fs, path::Path};

use super::server_harness::{Act, DATE, Event, Harness};
use crate::{base::Limits, h1::Headers};

/// Small limits, so that traces can be short.
fn limits() -> Limits {
    Limits { head: 400, target: 100, fields: 8, body: 100, drain: 20, ..Limits::default() }
}

#[derive(Default)]
struct Step {
    input: Vec<(Vec<u8>, bool)>,
    acts: Vec<Act>,
    seen: Vec<Event>,
    output: Vec<u8>,
    state: Option<String>,
    line: usize,
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '{'
            && let Some((inner, behind)) = rest.split_once('}')
            && let Some((count, what)) = inner.split_once('*')
            && let Ok(count) = count.parse()
        {
            bytes.extend(unescape(what).repeat(count));
            rest = behind;
        } else if c == '\\' {
            let (escape, behind) = rest.split_at(1);
            rest = behind;
            match escape {
                "r" => bytes.push(b'\r'),
                "n" => bytes.push(b'\n'),
                "t" => bytes.push(b'\t'),
                "0" => bytes.push(0),
                "x" => {
                    bytes.push(u8::from_str_radix(&rest[..2], 16).expect("two digits"));
                    rest = &rest[2..];
                }
                _ => bytes.extend(escape.bytes()),
            }
        } else {
            bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
        }
    }
    bytes
}

/// `Name: value; Name: value`
fn fields(text: &str) -> Headers {
    let mut fields = Headers::new();
    for line in text.split("; ").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a field: {line}"));
        fields.append(name, value).unwrap();
    }
    fields
}

/// Adds an act of the application, and the event that it must have received before.
///
/// ```text
/// head GET /path         waits for this head         respond 200 3 [fields]   begins a response of 3 bytes
/// ask                    asks for the body           respond 200 ? [fields]   ... of unknown length
/// body hello             waits for this much of it   write hello              some of the response's body
/// end [trailers]         waits for its end           finish [trailers]        ends the response's body
/// inform 103 [fields]    an informational response   switch 101 [fields]      hands the stream over
/// close                  no other request            next, wait               a head, an end that never come
/// ```
fn act(text: &str, step: &mut Step) {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (first, behind) = rest.split_once(' ').unwrap_or((rest, ""));
    let number = || first.parse().expect("a status");
    let act = match verb {
        "head" => {
            // Without version and framing: the responses show them.
            step.seen.push(head(first, behind));
            Act::Head
        }
        "ask" => Act::Ask,
        "body" => {
            let body = unescape(rest);
            let n = body.len();
            match step.seen.last_mut() {
                Some(Event::Body(before)) => before.extend(body),
                _ => step.seen.push(Event::Body(body)),
            }
            Act::Take(n)
        }
        "end" => {
            step.seen.push(Event::End(fields(rest)));
            Act::End
        }
        "inform" => Act::Inform(number(), fields(behind)),
        "close" => Act::Close,
        "respond" => {
            let (length, lines) = behind.split_once(' ').unwrap_or((behind, ""));
            Act::Respond { status: number(), fields: fields(lines), length: length.parse().ok() }
        }
        "write" => Act::Write(unescape(rest)),
        "finish" => Act::Finish((!rest.is_empty()).then(|| fields(rest))),
        "switch" => {
            step.seen.push(Event::Switched);
            Act::Switch(number(), fields(behind))
        }
        "next" => Act::Head,
        "wait" => Act::End,
        other => panic!("unknown act: {other}"),
    };
    step.acts.push(act);
}

fn head(method: &str, target: &str) -> Event {
    Event::Head {
        method: method.to_owned(),
        target: target.to_owned(),
        version: crate::h1::Version::Http11,
        framing: crate::h1::Framing::None,
    }
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut step = Step::default();
    let mut last = ' ';
    for (n, line) in text.lines().enumerate() {
        let Some((sign, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let kind = sign.chars().next().unwrap_or(' ');
        // Input and acts after an outcome begin the next step.
        if "<=".contains(last) && ">!".contains(kind) || last == '=' && kind == '<' {
            steps.push(std::mem::take(&mut step));
        }
        match sign {
            "#" => continue,
            ">" | ">>" => step.input.push((unescape(rest), sign == ">>")),
            "!" => act(rest, &mut step),
            "<" => {
                let bytes = unescape(&rest.replace('@', std::str::from_utf8(DATE).unwrap()));
                step.output.extend(bytes);
            }
            "=" => step.state = Some(rest.to_owned()),
            _ => panic!("line {}: not a line of a trace: {line}", n + 1),
        }
        step.line = n + 1;
        last = kind;
    }
    steps.push(step);
    steps
}

/// Returns the event without the parts that a trace does not contain.
fn plain(seen: &Event) -> Event {
    match seen {
        Event::Head { method, target, .. } => head(method, target),
        other => other.clone(),
    }
}

fn run(name: &str, steps: &[Step], size: usize) {
    let mut harness = Harness::new(limits());
    let mut sent = 0;
    let mut seen = Vec::new();
    for step in steps {
        let position = || format!("{name}:{}, in pieces of {size}", step.line);
        harness.acts.extend(step.acts.iter().cloned());
        harness.drive();
        for (bytes, whole) in &step.input {
            let size = if *whole { usize::MAX } else { size };
            bytes.chunks(size.min(bytes.len()).max(1)).for_each(|piece| harness.feed(piece));
        }
        for next in &step.seen {
            match (seen.last_mut(), next) {
                (Some(Event::Body(before)), Event::Body(more)) => before.extend(more),
                _ => seen.push(next.clone()),
            }
        }
        let got: Vec<Event> = harness
            .events
            .iter()
            .map(plain)
            .filter(|seen| !matches!(seen, Event::Rejected(..) | Event::Broken))
            .collect();
        assert_eq!(got, seen, "{}: what the application received", position());
        let output = harness.sent[sent..].escape_ascii().to_string();
        assert_eq!(output, step.output.escape_ascii().to_string(), "{}: what the peer got", position());
        sent = harness.sent.len();
        if let Some(state) = &step.state {
            assert_eq!(harness.state(), state, "{}", position());
        }
    }
}

#[test]
fn every_trace_every_way() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let mut traces = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let steps = steps(&fs::read_to_string(&path).unwrap());
        let longest = steps.iter().flat_map(|step| &step.input).map(|(bytes, _)| bytes.len()).max().unwrap_or(1);
        assert!(steps.iter().all(|step| !step.output.is_empty() || step.state.is_some()), "{name}: no outcome");
        for size in (1..=longest.min(200)).chain([longest]) {
            run(&name, &steps, size);
        }
        traces += 1;
    }
    assert!(traces >= 20, "only {traces} traces");
}

#[test]
fn a_wrong_trace_fails() {
    let right = "> GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n\n! head GET /\n! respond 204 ?\n\
                 < HTTP/1.1 204 No Content\\r\\nDate: @\\r\\n\\r\\n\n= idle\n";
    run("right", &steps(right), 1);
    for (from, to) in
        [("204 No", "200 No"), ("= idle", "= closing"), ("head GET", "head PUT"), ("Host: x", "Host: x y")]
    {
        let wrong = right.replace(from, to);
        assert!(std::panic::catch_unwind(|| run("wrong", &steps(&wrong), 1)).is_err(), "{wrong}");
    }
}
