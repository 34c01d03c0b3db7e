//! Calls handlers, uploads, producers, upgrades and other functions of the application.
//!
//! Every call comes from the top of a loop, never from inside another call of the application. A panic ends the called
//! object, is logged, and goes no further.

use std::{
    any::Any,
    os::fd::BorrowedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use log::error;

use crate::{
    api::{
        AccessRecord, Action, Consumed, DialError, Dialed, Handler, Io, PipeIn, PipeOut, Produce, Produced, Request,
        RequestEnd, Response, Tx, Upgrade, Upload,
        dial::Then,
        loop_message::{Fallback, Later},
        request::OnEnd,
    },
    base::{ConnId, EndReason, EventMask, Moment, PeerAddr, panic_message},
    h1::Headers,
};

/// The application panicked, which was logged.
#[derive(Debug)]
pub(super) struct Panicked;

const DIAL: &str = "the function given to LoopHandle::dial";

pub(super) type Called<T> = Result<T, Panicked>;

/// Returns `true` if a peer is trusted to be a proxy.
pub(crate) type Trusted = dyn Fn(&PeerAddr) -> bool + Send + Sync;

pub(crate) type AccessLog = dyn Fn(&AccessRecord<'_>) + Send + Sync;

#[inline]
fn guard<T>(what: &str, call: impl FnOnce() -> T) -> Called<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| log_panic(what, &*panic))
}

#[cold]
fn log_panic(what: &str, panic: &(dyn Any + Send)) -> Panicked {
    error!(target: "uncork::engine", "the application panicked in {what}: {}", panic_message(panic));
    Panicked
}

#[inline]
pub(super) fn request(handler: &mut dyn Handler, req: &mut Request<'_>) -> Called<Action> {
    guard("Handler::request", || handler.request(req))
}

pub(super) fn accept(handler: &mut dyn Handler, peer: &PeerAddr) -> bool {
    guard("Handler::accept", || handler.accept(peer)).unwrap_or(false)
}

/// Reports a connection that was not accepted.
#[cold]
pub(super) fn rejected(handler: &mut dyn Handler, peer: &PeerAddr, reason: &EndReason) {
    let _ = guard("Handler::rejected", || handler.rejected(peer, reason));
}

pub(super) fn alpn(handler: &mut dyn Handler, protocol: &[u8], peer: &PeerAddr) -> Called<Option<Box<dyn Upgrade>>> {
    guard("Handler::alpn", || handler.alpn(protocol, peer))
}

pub(super) fn trusts(trusted: &Trusted, peer: &PeerAddr) -> bool {
    guard("the function given to Server::proxy_protocol", || trusted(peer)).unwrap_or(false)
}

#[inline]
pub(super) fn opened(handler: &mut dyn Handler, conn: ConnId, peer: &PeerAddr, socket: Option<BorrowedFd<'_>>) {
    let _ = guard("Handler::opened", || handler.opened(conn, peer, socket));
}

#[inline]
pub(super) fn closed(handler: &mut dyn Handler, conn: ConnId, reason: &EndReason) {
    let _ = guard("Handler::closed", || handler.closed(conn, reason));
}

pub(super) fn stopping(handler: &mut dyn Handler) {
    let _ = guard("Handler::stopping", || handler.stopping());
}

pub(super) fn data(upload: &mut dyn Upload, chunk: &[u8]) -> Called<Consumed> {
    guard("Upload::data", || upload.data(chunk))
}

pub(super) fn end(upload: Box<dyn Upload>, trailers: &Headers) -> Called<Action> {
    guard("Upload::end", || upload.end(trailers))
}

pub(super) fn produce(produce: &mut dyn Produce, tx: &mut Tx<'_>) -> Called<Produced> {
    guard("Produce::produce", || produce.produce(tx))
}

pub(super) fn body_timeout(upload: &dyn Upload) -> Called<Option<Duration>> {
    guard("Upload::body_timeout", || upload.body_timeout())
}

/// Returns the pipe that an upload fills, if it is one.
pub(super) fn inlet(upload: &mut dyn Upload) -> Called<Option<&mut PipeIn>> {
    guard("Upload::pipe", || upload.pipe())
}

/// Returns the pipe that a producer drains, if it is one.
pub(super) fn outlet(produce: &mut dyn Produce) -> Called<Option<&mut PipeOut>> {
    guard("Produce::pipe", || produce.pipe())
}

pub(super) fn ready(upgrade: &mut dyn Upgrade, io: &mut Io<'_>) -> Called<EventMask> {
    guard("Upgrade::ready", || upgrade.ready(io))
}

pub(super) fn on_end(f: OnEnd, end: &RequestEnd) {
    let _ = guard("the function given to Request::on_end", || f(end));
}

pub(super) fn fallback(f: Fallback, now: Moment) -> Called<Response> {
    guard("the function given to Ticket::fallback", || f(now))
}

pub(super) fn later(f: Later, now: Moment) {
    let _ = guard("the function given to LoopHandle::after", || f(now));
}

/// Reports an established connection. Returns the upgrade that handles it.
pub(super) fn dialed(then: Then, dialed: Dialed<'_>) -> Called<Option<Box<dyn Upgrade>>> {
    guard(DIAL, || then.call(Ok(dialed)))
}

/// Reports the error with which a connection was not established.
pub(super) fn not_dialed(then: Then, error: DialError) {
    let _ = guard(DIAL, || drop(then.call(Err(error))));
}

pub(super) fn access(log: &AccessLog, access: &AccessRecord<'_>) {
    let _ = guard("the access log function", || log(access));
}

/// Drops an object of the application: that is a call, too.
pub(super) fn discard<T>(thing: T) {
    let _ = guard("a destructor", || drop(thing));
}
