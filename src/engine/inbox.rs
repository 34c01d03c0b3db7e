//! Messages from other threads, and from the application at any time: each is for one request, or for the loop.
//!
//! A message names connection, generation and request. If that request is over, nobody is disturbed.

use std::{os::fd::OwnedFd, time::Duration};

use log::debug;

use super::{
    Arrival, ConnSource, Engine,
    arrivals::Peer,
    body::RequestBody,
    dispatch,
    response_body::ResponseBody,
    slot::{Phase, Slot, Step},
};
use crate::{
    api::{
        ConnectedSocket, PipeIn, PipeOut, Response,
        loop_message::{LoopMessage, TicketMessage},
        ticket::TicketCore,
    },
    base::{ConnId, EndReason, PeerAddr, RequestId},
    transport::Socket,
};

impl Engine<'_> {
    /// Takes what has come.
    pub(super) fn read_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.mail);
        self.core.mailbox.drain(&mut mail);
        for message in mail.drain(..) {
            match message {
                LoopMessage::Wake(waker) => {
                    waker.arrived();
                    self.wake(waker.id);
                }
                LoopMessage::Ticket(ticket, word) => self.ticket_says(&ticket, word),
                // It would be closed in this very turn; and where each gets a thread, they could come faster than
                // threads end.
                late @ (LoopMessage::Adopt(..) | LoopMessage::AdoptPipes(..)) if self.core.is_over() => {
                    debug!(target: "uncork::engine", "a connection was handed over after the end");
                    dispatch::discard(late);
                }
                LoopMessage::Adopt(stream, port) => self.adopt(stream, port),
                LoopMessage::AdoptPipes(peer, pipes, port) => self.adopt_pipes(peer, pipes, port),
                LoopMessage::AdoptUpgrade(stream, upgrade) => self.adopt_upgrade(stream, upgrade),
                LoopMessage::Dial(dial, then) => self.dial(dial, then),
                LoopMessage::Wakeup => {}
                // If the caller does not wait any more, the sockets close.
                LoopMessage::Quiesce(reply) => drop(reply.send(self.quiesce())),
                LoopMessage::After(Duration::ZERO, f) => dispatch::later(f, self.core.now),
                LoopMessage::After(delay, f) => {
                    self.later_count += 1;
                    self.later.insert((self.core.tick.after(delay), self.later_count), f);
                }
                LoopMessage::Stop(grace) => self.stop(grace),
            }
        }
        self.mail = mail;
    }

    fn wake(&mut self, id: RequestId) {
        let Some(slot) = self.slots.get_mut(id.conn.index()).filter(|slot| slot.io.id == id.conn) else { return };
        if id.number == 0
            && let Some(side) = slot.io.transport.peer_side()
        {
            slot.io.ready.note_within(side);
            return self.enqueue(id.conn);
        }
        if slot.io.number != id.number {
            return;
        }
        match &mut slot.phase {
            Phase::Job(job) => job.woken = true,
            Phase::Upgraded(upgraded) => upgraded.woken = true,
            _ => return,
        }
        self.enqueue(id.conn);
    }

    /// A ticket speaks. What it says is judged when it arrives: the request may have ended meanwhile, and then what
    /// was said is dropped; the end was reported to the application.
    fn ticket_says(&mut self, ticket: &TicketCore, word: TicketMessage) {
        let id = ticket.id();
        let Some(slot) = self.slots.get_mut(id.conn.index()).filter(|slot| slot.io.id == id.conn) else {
            return dispatch::discard(word);
        };
        let Slot { io, phase: Phase::Job(job) } = slot else { return dispatch::discard(word) };
        if io.number != id.number {
            return dispatch::discard(word);
        }
        let core = &mut self.core;
        let result = match word {
            TicketMessage::Respond => ticket.take_action().map_or(Ok(()), |action| job.perform(io, core, action)),
            TicketMessage::Receive(upload) => job.perform(io, core, crate::api::Action::Receive(upload)),
            TicketMessage::Inform(status, headers) => {
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
                // With an upload at work, its end may still give the answer.
                let hopeless = matches!(job.response_body, ResponseBody::Owed)
                    && matches!(job.request_body, RequestBody::Idle | RequestBody::Over);
                if hopeless && !ticket.is_hopeful() && ticket.claim() {
                    debug!(target: "uncork::engine", "{}: every ticket was dropped", io.request_id());
                    job.answer(io, core, Response::new(503));
                }
                Ok(())
            }
        };
        let step = result.map_or_else(|stop| job.stopped(io, core, stop), |()| Ok(Step::Progress));
        match step.map(|step| slot.carry_out(core, step)) {
            Ok(None) => self.enqueue(id.conn),
            Ok(Some(why)) | Err(why) => self.close_slot(id.conn, why),
        }
    }

    fn adopt(&mut self, stream: ConnectedSocket, port: usize) {
        let result = match stream {
            ConnectedSocket::Tcp(stream) => Socket::from_tcp(stream),
            ConnectedSocket::Unix(stream) => Socket::from_unix(stream),
        };
        match result {
            Ok((socket, peer)) => self.arrive(socket, peer, port),
            Err(error) => debug!(target: "uncork::engine", "a stream could not be adopted: {error}"),
        }
    }

    fn adopt_pipes(&mut self, peer: PeerAddr, pipes: Box<(PipeOut, PipeIn)>, port: usize) {
        if dispatch::accept(&mut *self.handler, &peer) {
            self.take_in(Arrival { source: ConnSource::Pipes(pipes), peer: Peer::brought_along(peer), port });
        } else {
            debug!(target: "uncork::engine", "{peer}: turned away by the handler");
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
        self.ports.iter_mut().enumerate().filter_map(give).collect()
    }

    /// Stops: listeners close, idle connections too, and everything else has until the grace ends.
    pub(super) fn stop(&mut self, grace: Option<Duration>) {
        let until = grace.map_or(self.core.tick, |grace| self.core.tick.after(grace));
        if let Some(earlier) = self.core.stopping {
            self.core.stopping = Some(earlier.min(until));
            return;
        }
        // What the system has accepted for us by now is in flight: a listener that is closed resets it.
        for port in 0..self.ports.len() {
            self.ports[port].ready = true;
            self.ports[port].paused = crate::base::time::Tick::NEVER;
            while self.accept_some(port) {}
            self.ports[port].listener = None;
        }
        self.core.stopping = Some(until);
        dispatch::stopping(&mut *self.handler);
        for id in self.slots.iter().map(|(_, slot)| slot.io.id).collect::<Vec<_>>() {
            let Some(slot) = self.slots.get_mut(id.index()) else { continue };
            match &mut slot.phase {
                Phase::Upgraded(upgraded) => upgraded.stopping = true,
                Phase::Job(_) if slot.io.conn.owes_answer() => slot.io.conn.forbid_keep_alive(),
                _ => {}
            }
            self.enqueue(id);
        }
    }

    /// The grace is over: tickets that still wait are answered with 503, and everything ends.
    pub(super) fn force(&mut self) {
        for id in self.slots.iter().map(|(_, slot)| slot.io.id).collect::<Vec<_>>() {
            let Some(slot) = self.slots.get_mut(id.index()) else { continue };
            if let Phase::Job(job) = &mut slot.phase
                && slot.io.conn.owes_answer()
            {
                job.answer(&mut slot.io, &mut self.core, Response::new(503).close());
                // As far as the socket takes it at once.
                let _ = slot.io.flush(&mut self.core);
            }
            self.close_slot(id, EndReason::Stopped);
        }
    }
}
