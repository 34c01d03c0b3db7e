//! Part of the fuzz target `engine`: the nodes of a cluster. What a node says is read as a table and as a redirection, and
//! a router gets answers, redirections, losses and time in any order.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    reply::Reply,
    router::{Action, Router},
    slots::{Redirection, SLOTS, Table},
    url::Place,
};

/// Checks that any reply can be read, and what a table says.
pub(super) fn read(reply: &Reply) {
    let from = Place::Tcp("self".into(), 1);
    if let Ok(table) = Table::parse(reply, &from) {
        let nodes: BTreeSet<&Place> = table.nodes().collect();
        let known = (0..SLOTS).filter_map(|slot| table.node(slot)).all(|node| nodes.contains(&node));
        assert!(known && nodes.len() <= 1000, "each slot has one of the nodes");
    }
    if let Some(to) = Redirection::parse(reply, &from) {
        assert!(to.slot < SLOTS && reply.is_redirection());
    }
}

/// One of a few nodes.
fn place(n: u8) -> Place {
    Place::Tcp(format!("n{}", n % 6), 1)
}

/// A table: the nodes of these numbers have one slot each.
fn table(numbers: &[u8]) -> Option<Table> {
    let range = |(slot, n): (i64, &u8)| {
        let master = Reply::Array(vec![Reply::Bytes(format!("n{}", n % 6).into_bytes()), Reply::Int(1)]);
        Reply::Array(vec![Reply::Int(slot), Reply::Int(slot), master])
    };
    Table::parse(&Reply::Array((0..).zip(numbers).map(range).collect()), &place(0)).ok()
}

/// Checks that a router connects to a node once, leaves only those that it has connected to, asks one connected node at a
/// time, and says truly when there is a connection to all.
pub(super) fn route(acts: &[u8], start: Instant) {
    let mut router = Router::new(vec![place(0), place(1)], start);
    let (mut now, mut nodes, mut is_asking, mut is_up) = (start, BTreeMap::<Place, bool>::new(), false, false);
    for pair in acts.chunks_exact(2) {
        let (act, n) = (pair[0], pair[1]);
        match act % 8 {
            0 | 1 => {
                // The engine tells only of nodes that it has.
                if let Some(is_connected) = nodes.get_mut(&place(n)) {
                    *is_connected = act % 8 == 0;
                    match act % 8 {
                        0 => router.connected(&place(n), now),
                        _ => router.lost(&place(n), now),
                    }
                }
            }
            2 if is_asking => {
                is_asking = false;
                router.answer(table(&[act >> 3, n, n >> 3]), now);
            }
            3 if is_asking => {
                is_asking = false;
                router.answer(None, now);
            }
            4 => router.moved(u16::from(act >> 3 & 3), &place(n), now),
            5 => router.expect(&place(n), now),
            6 => router.refresh(now),
            _ => {
                now += Duration::from_millis(u64::from(n) * 300);
                router.tick(now);
            }
        }
        for action in router.actions() {
            match action {
                Action::Connect(place) => assert!(nodes.insert(place, false).is_none(), "connected to twice"),
                Action::Leave(place) => assert!(nodes.remove(&place).is_some(), "it was not connected to"),
                Action::Ask(place) => {
                    assert!(!is_asking && nodes.get(&place) == Some(&true), "one question, to a connected node");
                    is_asking = true;
                }
                Action::Connected => {
                    assert!(!is_up);
                    is_up = true;
                }
                Action::Lost => {
                    assert!(is_up);
                    is_up = false;
                }
            }
        }
        let mut slots = (0..4).filter_map(|slot| router.node(slot)).peekable();
        let all = slots.peek().is_some() && slots.all(|place| nodes.get(place) == Some(&true));
        assert_eq!(is_up, all, "there is a connection to each node that has slots");
    }
}
