//! What must hold for what was sent and received.

use std::time::Duration;

use super::{
    Mode, World,
    application::Record,
    client::Client,
    end::OtherEnd,
    reference::{End, Exchange, Exchanges, Progress, Request, Response, exchanges, requests},
};

/// Number of 1xx that P forwards.
const INFORMATIONAL: usize = 16;

impl World {
    /// Checks all that has happened so far.
    pub(super) fn check(&self) {
        let records = self.application.records();
        let at_proxy: Vec<Exchanges> = self.origins.iter().map(at_proxy).collect();
        let all: Vec<&Exchange> =
            at_proxy.iter().flat_map(|known| &known.all).filter(|exchange| !exchange.request.own).collect();
        for exchange in &all {
            self.check_request(exchange);
        }
        for client in &self.clients {
            let of_client = |exchange: &&&Exchange| number(&exchange.request.target) == Some(client.number);
            assert!(all.iter().filter(of_client).count() <= 1, "a request was sent twice");
            check_response(client, all.iter().find(of_client).copied(), &records);
        }
        for (origin, known) in self.origins.iter().zip(&at_proxy) {
            self.check_new_protocol(origin, known);
        }
        for served in &self.served {
            let known = exchanges(&served.sent, &served.received, served.received_end());
            check_served(served, &known, &records);
            if self.mode == Mode::Origin {
                check_records(&served.sent, &records);
            }
        }
    }

    /// P has sent what the client has sent.
    fn check_request(&self, exchange: &Exchange) {
        let request = &exchange.request;
        let client = number(&request.target).and_then(|number| self.clients.get(number));
        let Some(client) = client else { panic!("{}: of which client?", request.target) };
        assert_eq!(request.method, client.method);
        assert_eq!(request.upgrade, client.upgrades);
        if !client.upgrades {
            assert!(client.has_offered(&request.body), "a request's body has other bytes");
            let complete = client.complete && request.body.len() == client.offered;
            assert!(request.progress != Progress::Complete || complete, "a truncated request looks complete");
        }
    }

    /// A new protocol's bytes are those of the client, and end as they do.
    fn check_new_protocol(&self, origin: &OtherEnd, known: &Exchanges) {
        let Some(last) = known.all.last().filter(|last| last.response.switched && last.request.upgrade) else { return };
        let Some(client) = number(&last.request.target).and_then(|number| self.clients.get(number)) else { return };
        assert!(client.has_offered(&last.raw), "an upgraded stream has other bytes");
        if origin.received_end() == End::Finished {
            let complete = client.end.sent_end == End::Finished && last.raw.len() == client.offered;
            assert!(complete, "a truncated stream looks complete");
        }
    }

    /// Where nothing has gone wrong, everything has arrived.
    pub(super) fn check_arrived(&self) {
        if self.passed > Duration::from_secs(14) || self.cut {
            return;
        }
        // One that has disconnected after its response has reset the connection, which may come before the response.
        let known: Vec<Exchanges> = self.origins.iter().filter(|origin| !origin.is_rough).map(at_proxy).collect();
        for client in self.clients.iter().filter(|client| !client.end.is_rough && client.complete && !client.upgrades) {
            let of_client = |exchange: &&Exchange| number(&exchange.request.target) == Some(client.number);
            let exchange = known.iter().flat_map(|known| &known.all).find(of_client);
            let response = client.response();
            let arrives = match exchange {
                _ if self.mode == Mode::Fair => true,
                None => false,
                Some(exchange) => {
                    let Exchange { request, response, .. } = exchange;
                    let both = request.progress == Progress::Complete && response.progress == Progress::Complete;
                    both && !response.switched && response.informational.len() <= INFORMATIONAL
                }
            };
            if arrives {
                let text = String::from_utf8_lossy(&client.end.received[..client.end.received.len().min(300)]);
                assert!(response.progress == Progress::Complete, "client {}: {text}", client.number);
                assert!(
                    response.via || self.mode == Mode::Fair && !client.end.reads,
                    "client {}: {text}",
                    client.number
                );
            }
        }
    }
}

/// Returns the number of the client with this target.
fn number(target: &str) -> Option<usize> {
    target.split('/').nth(1)?.parse().ok()
}

/// Reads what P and an origin server have sent to each other.
fn at_proxy(origin: &OtherEnd) -> Exchanges {
    let known = exchanges(&origin.received, &origin.sent, origin.sent_end);
    for exchange in &known.all {
        assert!(exchange.request.progress != Progress::Broken, "P sends what is not HTTP");
    }
    let last = known.all.last();
    let behind = known.all.iter().rev().skip(1).any(|exchange| !exchange.lets_another_follow());
    assert!(!behind, "P sends a request where none may follow");
    // Behind a request that is not complete, it is the beginning of a chunk.
    if last.is_some_and(|last| last.request.progress == Progress::Complete && !last.lets_another_follow()) {
        assert_eq!(known.requests_left, 0, "P sends a request behind a fault");
    }
    let incomplete = known.requests_left > 0 || last.is_some_and(|last| last.request.progress != Progress::Complete);
    assert!(origin.received_end() != End::Finished || !incomplete, "the end of a truncated request looks regular");
    known
}

/// A client has received what the origin server has sent, or P's own response.
fn check_response(client: &Client, exchange: Option<&Exchange>, records: &[Record]) {
    let got = client.response();
    assert!(got.progress != Progress::Broken, "a client gets what is not HTTP");
    let forwarded = |statuses: &[u16]| statuses.iter().copied().filter(|status| *status != 100).collect::<Vec<_>>();
    let sent = exchange.map_or(Vec::new(), |exchange| forwarded(&exchange.response.informational));
    let informational = forwarded(&got.informational);
    assert!(sent.starts_with(&informational) && informational.len() <= INFORMATIONAL, "other 1xx: {informational:?}");
    let Some(status) = got.status else { return };
    if !got.via {
        let own = [400, 404, 408, 413, 426, 429, 431, 500, 501, 502, 503, 504, 508];
        assert!(own.contains(&status), "P itself responds with {status}");
        return;
    }
    let Some(exchange) = exchange else { panic!("a response to what was not sent") };
    let Response { status: sent, body, progress, switched, .. } = &exchange.response;
    let want = match *sent {
        Some(200..300) if client.upgrades => Some(502),
        other => other,
    };
    assert_eq!(Some(status), want, "another status");
    assert_eq!(got.switched, *switched);
    assert!(body.starts_with(&got.body), "a response's body has other bytes");
    if got.progress == Progress::Complete {
        assert!(*progress == Progress::Complete, "a truncated response looks complete: {exchange:?}, {got:?}");
        assert!(got.body.len() == body.len() || client.method == "HEAD", "a part of a response looks complete");
    }
    check_record(&got, &format!("/{}/", client.number), records);
}

/// A response of the application is what it has written.
fn check_record(got: &Response, target: &str, records: &[Record]) {
    let Some(record) = got.record.and_then(|n| records.get(n)) else { return };
    assert!(record.target.starts_with(target), "{target} has got the response to {}", record.target);
    if got.progress == Progress::Complete && !got.switched {
        // The body of a response to HEAD is not asked for.
        let finished = record.finished || record.method == "HEAD";
        assert!(finished, "a truncated response looks complete: {got:?}, {record:?}");
        assert!(record.echoes || record.written == got.body.len(), "{} of {} bytes", got.body.len(), record.written);
    }
}

/// C has sent responses to what it was asked, and nothing behind a fault.
fn check_served(served: &OtherEnd, known: &Exchanges, records: &[Record]) {
    for Exchange { request, response, .. } in &known.all {
        assert!(response.progress != Progress::Broken, "C sends what is not HTTP");
        let is_request = request.progress != Progress::Broken || !request.method.is_empty();
        assert!(response.status.is_none() || is_request, "a response to what is no request");
        check_record(response, &request.target, records);
        let incomplete = response.status.is_some() && response.progress != Progress::Complete;
        assert!(served.received_end() != End::Finished || !incomplete, "the end of a truncated response looks regular");
    }
    assert_eq!(known.responses_left, 0, "C responds to what was not requested, or behind a fault");
}

/// The application has got the requests that were sent, in order.
fn check_records(wire: &[u8], records: &[Record]) {
    let (known, upgrades) = requests(wire);
    let mut sent = known.iter();
    for record in records {
        let is_of =
            |request: &&Request| !request.own && request.target == record.target && request.method == record.method;
        let Some(request) = sent.find(is_of) else {
            // Behind an upgrade that was declined.
            assert!(upgrades, "{} {}: it was not sent: {known:?}", record.method, record.target);
            return;
        };
        assert!(request.body.starts_with(&record.body), "a request's body has other bytes");
        if record.body_ended && !record.echoes {
            let complete = request.progress == Progress::Complete && request.body.len() == record.body.len();
            assert!(complete, "a truncated request looks complete");
        }
    }
}
