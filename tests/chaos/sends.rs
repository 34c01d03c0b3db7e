//! Messages of the application to the clients, through any node.

use std::{
    collections::HashMap,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    client::TestResponse,
    clients::{self, Client},
    cluster::exchange,
    run::{Random, Run, lock},
};

const OK: &[u8] = br#"{"result":"OK"}"#;

/// A message that was accepted arrives within this time.
const ARRIVES: Duration = Duration::from_secs(10);

/// How many clients a message is for, when all of them are.
const BATCH: usize = 50;

struct Message {
    key: String,
    sent: Instant,
    accepted: bool,
    received: u32,
}

#[derive(Default)]
pub(crate) struct Messages(HashMap<u64, Message>);

/// A client has received a message.
pub(crate) fn received(run: &Run, key: &str, text: &str) {
    let number = text.strip_prefix('m').and_then(|number| number.parse().ok());
    let mut messages = lock(&run.messages);
    let Some(message) = number.and_then(|number: u64| messages.0.get_mut(&number)) else { return };
    message.received += 1;
    if message.key != key || message.received > 1 {
        let (times, of) = (message.received, &message.key);
        run.breaks(format!("message {text} for {of} has arrived at {key}; {times} times in all"));
    }
}

/// Returns `true` if this session is connected now, and its node has not had a fault that ends it.
fn is_connected(run: &Run, client: &Client) -> bool {
    let Some(since) = client.since else { return false };
    let was_lost = run.had(since, |fault| fault.loses_clients() == Some(client.node));
    clients::of_key(run, &client.key).is_some_and(|now| now.is_same(client)) && !was_lost
}

/// Sends to one client after the other.
pub(crate) fn send(run: &Arc<Run>, mut random: Random) {
    while !run.is_over() {
        sleep(Duration::from_millis(5 + random.below(20)));
        let client = lock(&run.clients[random.below(run.clients.len() as u64) as usize]).clone();
        if client.since.is_none() {
            continue;
        }
        let (node, number, began) = (run.live_node(&mut random), run.number(), Instant::now());
        let message = Message { key: client.key.clone(), sent: began, accepted: false, received: 0 };
        lock(&run.messages).0.insert(number, message);
        let text = format!("m{number}");
        let result = post(run, node, &[client.key.as_str()], &text);
        if result.as_ref().is_ok_and(|response| response.body == OK) {
            run.count("messages accepted");
            if let Some(message) = lock(&run.messages).0.get_mut(&number) {
                message.accepted = true;
            }
            continue;
        }
        let problem = match &result {
            Ok(response) => format!("{} {}", response.status, response.body.escape_ascii()),
            Err(error) => error.to_string(),
        };
        let is_wrong = problem.contains("session is not found") || problem.contains("session is closed");
        let kind = ["not found", "is closed", "directory unavailable", "node unavailable"];
        let kind = kind.iter().find(|kind| problem.contains(*kind)).unwrap_or(&"other");
        if is_connected(run, &client) && (is_wrong || !run.had_any(began)) {
            let (of, since) = (client.node, client.since.map(|since| since.elapsed()));
            let key = &client.key;
            run.breaks(format!("{text} by node {node} for {key}, connected to node {of} for {since:?}: {problem}"));
        }
        run.count(&format!("messages rejected: {kind}"));
    }
}

fn post(run: &Run, node: usize, keys: &[&str], text: &str) -> std::io::Result<TestResponse> {
    let keys: Vec<String> = keys.iter().map(|key| format!("X-Kuiperbelt-Session: {key}")).collect();
    let mut fields: Vec<&str> = keys.iter().map(String::as_str).collect();
    fields.push("Content-Type: text/plain");
    exchange(run.ports()[node].admin, "POST /send", &fields, text.as_bytes())
}

/// Checks what was accepted, periodically.
pub(crate) fn check(run: &Arc<Run>) {
    while !run.is_over() {
        sleep(Duration::from_millis(200));
        clients::check(run);
        let mut late = Vec::new();
        lock(&run.messages).0.retain(|number, message| {
            let is_missing = message.accepted && message.received == 0;
            if is_missing && message.sent.elapsed() > ARRIVES {
                late.push((*number, message.key.clone(), message.sent));
            }
            message.sent.elapsed() < if is_missing { ARRIVES } else { ARRIVES * 3 }
        });
        for (number, key, sent) in late {
            let client = clients::of_key(run, &key);
            if client.is_some_and(|client| client.since < Some(sent)) {
                run.breaks(format!("message m{number} for {key} was accepted, and has not arrived"));
            }
        }
    }
}

/// Returns `true` if all clients that are connected can be reached from all nodes.
pub(crate) fn reach_all(run: &Run) -> bool {
    let all = run.clients.iter().map(|client| lock(client).clone());
    let connected: Vec<Client> = all.filter(|client| client.since.is_some()).collect();
    (0..3).all(|node| connected.chunks(BATCH).all(|batch| reach(run, node, batch)))
}

fn reach(run: &Run, node: usize, batch: &[Client]) -> bool {
    let keys: Vec<&str> = batch.iter().map(|client| client.key.as_str()).collect();
    let Ok(response) = post(run, node, &keys, "r") else { return false };
    let list: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let errors = list.get("errors").and_then(|errors| errors.as_array()).cloned().unwrap_or_default();
    let mut reached = response.status == 200;
    for error in errors {
        let (key, error) = (error["session"].as_str().unwrap_or_default(), error["error"].as_str().unwrap_or_default());
        let Some(client) = batch.iter().find(|client| client.key == key) else { continue };
        if is_connected(run, client) {
            reached = false;
            if error.contains("not found") || error.contains("is closed") {
                let of = client.node;
                run.breaks(format!("a message by node {node} for {key}, connected to node {of}: {error}"));
            }
        }
    }
    reached
}
