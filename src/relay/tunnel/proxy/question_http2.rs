//! The question for the credential in HTTP/2: the first stream of the connection.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Context, Poll},
    time::Instant,
};

use h2::{RecvStream, client::ResponseFuture};
use uncork::{EventMask, Io, Upgrade};

use super::{
    connection::Registration,
    handshake::Rejection,
    handshake_alpn::{HELLO, MAX_RESPONSE, Question, REFUSED, malformed},
    http2::{Http2, Parts},
    shared::Shared,
};
use crate::relay::tunnel::{address::NODES, http1::OWN_HOST, labels::Inner, pump::Step};

pub(super) struct Http2Question {
    parts: Parts,
    /// The part of the response that is being received, until it is complete.
    pending: Option<Pending>,
}

enum Pending {
    Head(ResponseFuture),
    Body(RecvStream, Vec<u8>),
}

impl Http2Question {
    pub(super) fn new(shared: &Shared) -> Option<Self> {
        Some(Self { parts: Http2::parts(&shared.common.config)?, pending: None })
    }
}

fn get(path: &str) -> http::request::Builder {
    http::Request::get(format!("https://{OWN_HOST}{path}"))
}

impl Question for Http2Question {
    fn waker(&self) -> task::Waker {
        self.parts.waker()
    }

    fn ask(&mut self, nodes: Option<&str>) {
        let head = get(HELLO);
        let head = match nodes {
            Some(nodes) => head.header(NODES, nodes),
            None => head,
        };
        if let Ok(head) = head.body(()) {
            self.pending = self.parts.send.send_request(head, true).ok().map(|(response, _)| Pending::Head(response));
        }
    }

    fn turn(&mut self, io: &mut Io<'_>) -> (EventMask, Option<Result<Vec<u8>, Rejection>>) {
        let Self { parts, pending } = self;
        let (connection, mut hello) = (&mut parts.connection, None);
        let mask = parts.pump.turn(io, |cx, _| {
            if hello.is_none() {
                hello = poll_hello(pending, cx);
            }
            match Pin::new(&mut *connection).poll(cx) {
                Poll::Ready(_) => Step::Over,
                Poll::Pending => Step::Pending,
            }
        });
        if hello.is_some() {
            *pending = None;
        }
        (mask, hello)
    }

    fn refuse(&mut self, io: &mut Io<'_>, rejection: &Rejection) {
        let head = get(REFUSED)
            .header("uncork-status", rejection.status())
            .header("uncork-reason", rejection.reason())
            .body(());
        let parts = &mut self.parts;
        // Best effort: this side's log has the reason as well.
        let sent = head.is_ok_and(|head| parts.send.send_request(head, true).is_ok());
        let connection = &mut parts.connection;
        let _ = parts.pump.turn(io, |cx, _| {
            let polled = Pin::new(&mut *connection).poll(cx);
            if polled.is_ready() || !sent { Step::Over } else { Step::Pending }
        });
    }

    fn accept(self, shared: &Arc<Shared>, registration: Registration, now: Instant) -> Box<dyn Upgrade> {
        Box::new(Http2::of(self.parts, shared, registration, now))
    }

    fn inner(&self) -> Inner {
        Inner::Http2
    }
}

/// Reads the response. Returns its content, or an error if it is not usable.
fn poll_hello(question: &mut Option<Pending>, cx: &mut Context<'_>) -> Option<Result<Vec<u8>, Rejection>> {
    let malformed = || Some(Err(malformed()));
    loop {
        match question.as_mut()? {
            Pending::Head(response) => match Pin::new(response).poll(cx) {
                Poll::Pending => return None,
                Poll::Ready(Ok(response)) if response.status() == 200 => {
                    *question = Some(Pending::Body(response.into_body(), Vec::new()));
                }
                Poll::Ready(_) => return malformed(),
            },
            Pending::Body(body, content) => match body.poll_data(cx) {
                Poll::Pending => return None,
                Poll::Ready(Some(Ok(data))) if content.len() + data.len() <= MAX_RESPONSE => {
                    content.extend_from_slice(&data);
                    let _ = body.flow_control().release_capacity(data.len());
                }
                Poll::Ready(None) => return Some(Ok(std::mem::take(content))),
                Poll::Ready(Some(_)) => return malformed(),
            },
        }
    }
}
