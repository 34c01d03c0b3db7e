//! Messages from other threads, and from the application at any time: each is for one request, or for the loop.
//!
//! A message names connection, generation and request. If that request is over, the message has no effect.

use std::{os::fd::OwnedFd, time::Duration};

use log::debug;

use super::{
    Engine,
    arrivals::{Arrival, ConnSource, Peer},
    dispatch,
    job::{RequestBody, ResponseBody},
    phase::{Phase, Slot, Step},
};
use crate::{
    api::{
        ConnectedSocket, PipeIn, PipeOut, Response,
        loop_message::{LoopMessage, TicketMessage},
        ticket::TicketCore,
    },
    base::{ConnId, EndReason, PeerAddr, RequestId, time::Tick},
    transport::Socket,
};

impl Engine<'_> {
    /// Handles the messages that have arrived.
    pub(super) fn read_messages(&mut self) {
        let mut messages = std::mem::take(&mut self.messages);
        self.core.mailbox.drain(&mut messages);
        for message in messages.drain(..) {
            match message {
                LoopMessage::Wake(waker) => {
                    waker.arrived();
                    self.wake(waker.id);
                }
                LoopMessage::Ticket(ticket, message) => self.ticket_message(&ticket, message),
                // It would be closed in this turn. With a thread for each connection, they could come faster than
                // threads end.
                late @ (LoopMessage::Adopt(..) | LoopMessage::AdoptPipes(..)) if self.core.is_over() => {
                    debug!(target: "uncork::engine", "a connection was handed over after the loop had ended");
                    dispatch::discard(late);
                }
                LoopMessage::Adopt(stream, listener) => self.adopt(stream, listener),
                LoopMessage::AdoptPipes(peer, pipes, listener) => self.adopt_pipes(peer, pipes, listener),
                LoopMessage::AdoptUpgrade(stream, upgrade) => self.adopt_upgrade(stream, upgrade),
                LoopMessage::Dial(dial, then) => self.dial(dial, then),
                LoopMessage::Wakeup => {}
                // If the caller no longer waits, the sockets close.
                LoopMessage::Quiesce(sender) => drop(sender.send(self.quiesce())),
                LoopMessage::After(Duration::ZERO, f) => dispatch::later(f, self.core.now),
                LoopMessage::After(delay, f) => {
                    self.later_count += 1;
                    self.later.insert((self.core.tick.after(delay), self.later_count), f);
                }
                LoopMessage::Stop(grace) => self.stop(grace),
            }
        }
        self.messages = messages;
    }

    fn wake(&mut self, id: RequestId) {
        let Some(slot) = self.slots.get_mut(id.conn.index()).filter(|slot| slot.io.id == id.conn) else { return };
        if id.number == 0
            && let Some(side) = slot.io.transport.peer_side()
        {
            slot.io.ready.note_within(side);
            return self.enqueue(id.conn);
        }
        let Some(within) = slot.of_request(id.number) else {
            // The connection itself: it has work to do.
            if id.number == 0 && matches!(slot.phase, Phase::Streams(_)) {
                self.enqueue(id.conn);
            }
            return;
        };
        match &mut within.phase {
            Phase::Job(job) => job.woken = true,
            Phase::Upgraded(upgraded) => upgraded.woken = true,
            _ => return,
        }
        self.enqueue(id.conn);
    }

    /// Handles a ticket's message. The request may have ended before it arrived: then the message is dropped, and the
    /// application has learned of the end.
    fn ticket_message(&mut self, ticket: &TicketCore, message: TicketMessage) {
        let id = ticket.id();
        let Some(slot) = self.slots.get_mut(id.conn.index()).filter(|slot| slot.io.id == id.conn) else {
            return dispatch::discard(message);
        };
        let Some(slot) = slot.of_request(id.number) else { return dispatch::discard(message) };
        let Slot { io, phase: Phase::Job(job) } = slot else { return dispatch::discard(message) };
        let core = &mut self.core;
        let result = match message {
            TicketMessage::Respond => ticket.take_action().map_or(Ok(()), |action| job.perform(io, core, action)),
            TicketMessage::Receive(upload) => job.perform(io, core, crate::api::Action::Receive(upload)),
            TicketMessage::Informational(status, headers) => {
                io.open_out(core);
                if status == 100 {
                    io.conn.ask_for_body(&io.rx, &mut io.out);
                }
                io.conn.inform(status, &headers, &mut io.out);
                Ok(())
            }
            TicketMessage::Fallback(after, f) => {
                job.fallback = Some((core.tick.after(after), f));
                Ok(())
            }
            TicketMessage::Dropped => {
                // An upload at work may still return the response at its end.
                let hopeless = matches!(job.response_body, ResponseBody::Owed)
                    && matches!(job.request_body, RequestBody::NotRequested | RequestBody::Over);
                if hopeless && !ticket.can_respond() && ticket.claim() {
                    debug!(target: "uncork::engine", "{}: every ticket was dropped: 503", io.request_id());
                    job.respond(io, core, Response::new(503));
                }
                Ok(())
            }
        };
        let step = result.map_or_else(|exit| job.stopped(io, core, exit), |()| Ok(Step::Progress));
        if io.conn.is_stream() {
            // As those that begin in one turn, hundreds may be responded to before they are driven.
            io.out.settle(&mut core.pool);
        }
        match step.map(|step| slot.carry_out(core, step)) {
            Ok(None) => self.enqueue(id.conn),
            Ok(Some(reason)) | Err(reason) => self.close_request(id, reason),
        }
    }

    /// Ends a request, and the connection that it is in, if that has no others. A connection itself has the number 0.
    pub(super) fn close_request(&mut self, id: RequestId, reason: EndReason) {
        if id.number > 0
            && let Some(Slot { phase: Phase::Streams(streams), .. }) = self.slots.get_mut(id.conn.index())
        {
            streams.end(id.number, &mut self.core, reason);
            return self.enqueue(id.conn);
        }
        self.close_slot(id.conn, reason);
    }

    fn adopt(&mut self, stream: ConnectedSocket, listener: usize) {
        let result = match stream {
            ConnectedSocket::Tcp(stream) => Socket::from_tcp(stream),
            ConnectedSocket::Unix(stream) => Socket::from_unix(stream),
        };
        match result {
            Ok((socket, peer)) => self.arrive(socket, peer, listener),
            Err(error) => debug!(target: "uncork::engine", "cannot adopt a stream: {error}"),
        }
    }

    fn adopt_pipes(&mut self, peer: PeerAddr, pipes: Box<(PipeOut, PipeIn)>, listener: usize) {
        if dispatch::accept(&mut *self.handler, &peer) {
            self.take_in(Arrival { source: ConnSource::Pipes(pipes), peer: Peer::adopted(peer), listener });
        } else {
            debug!(target: "uncork::engine", "{peer}: rejected by the handler");
        }
    }

    /// Puts a connection into the run queue, once.
    pub(super) fn enqueue(&mut self, id: ConnId) {
        if let Some(slot) = self.slots.get_mut(id.index()).filter(|slot| slot.io.id == id)
            && !std::mem::replace(&mut slot.io.queued, true)
        {
            self.core.run.push_back(id);
        }
    }

    /// Stops accepting, and returns the listening sockets with the indices of their listeners. Connections that the
    /// system holds in their queues stay there.
    pub(crate) fn quiesce(&mut self) -> Vec<(usize, OwnedFd)> {
        let registry = self.poll.registry();
        let give = |(index, port): (usize, &mut super::LoopListener)| {
            let mut listener = port.listener.take()?;
            if let Err(error) = listener.deregister(registry) {
                debug!(target: "uncork::engine", "cannot deregister a listener: {error}");
            }
            Some((index, listener.into()))
        };
        self.listeners.iter_mut().enumerate().filter_map(give).collect()
    }

    /// Stops the loop: listeners and idle connections close, everything else has until the grace period ends.
    pub(super) fn stop(&mut self, grace: Option<Duration>) {
        let until = grace.map_or(self.core.tick, |grace| self.core.tick.after(grace));
        if let Some(earlier) = self.core.stopping {
            self.core.stopping = Some(earlier.min(until));
            return;
        }
        // Connections that the system has accepted are in flight: closing the listener would reset them.
        for index in 0..self.listeners.len() {
            self.listeners[index].ready = true;
            self.listeners[index].paused = Tick::NEVER;
            while self.accept_some(index) {}
            self.listeners[index].listener = None;
        }
        self.core.stopping = Some(until);
        dispatch::stopping(&mut *self.handler);
        for id in self.slots.iter().map(|(_, slot)| slot.io.id).collect::<Vec<_>>() {
            let Some(slot) = self.slots.get_mut(id.index()) else { continue };
            match &mut slot.phase {
                Phase::Upgraded(upgraded) => upgraded.stopping = true,
                Phase::Streams(streams) => streams.stop(),
                Phase::Job(_) if slot.io.conn.owes_response() => slot.io.conn.forbid_keep_alive(),
                _ => {}
            }
            self.enqueue(id);
        }
    }

    /// Ends everything after the grace period: suspended requests get a 503.
    pub(super) fn force(&mut self) {
        for id in self.slots.iter().map(|(_, slot)| slot.io.id).collect::<Vec<_>>() {
            let Some(slot) = self.slots.get_mut(id.index()) else { continue };
            if let Phase::Job(job) = &mut slot.phase
                && slot.io.conn.owes_response()
            {
                job.respond(&mut slot.io, &mut self.core, Response::new(503).close());
                // As far as the socket accepts it at once.
                let _ = slot.io.flush(&mut self.core);
            }
            if let Phase::Streams(streams) = &mut slot.phase {
                streams.force(&mut slot.io, &mut self.core);
            }
            self.close_slot(id, EndReason::Stopped);
        }
    }
}
