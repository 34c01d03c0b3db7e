//! Pipelines that wait to be sent.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Instant,
};

use super::command::{Pipeline, Then};

/// Limit in bytes for what waits.
const MAX_BYTES: usize = 64 << 20;

pub(super) struct Queue {
    /// By number, the oldest first.
    waiting: BTreeMap<u64, Waiting>,
    /// The numbers of those that are hints, the oldest first.
    hints: VecDeque<u64>,
    next: u64,
    /// Those with a smaller number have a deadline.
    with_deadline: u64,
    /// Commands and bytes that wait.
    commands: usize,
    bytes: usize,
    /// Commands that were sent and have no reply yet.
    in_flight: usize,
    /// Limit for the commands that wait or are in flight.
    max: usize,
    dropped: Vec<Then>,
    dropped_hints: u64,
}

struct Waiting {
    pipeline: Pipeline,
    deadline: Option<Instant>,
}

impl Queue {
    pub(super) fn new(max: usize) -> Self {
        Self {
            waiting: BTreeMap::new(),
            hints: VecDeque::new(),
            next: 0,
            with_deadline: 0,
            commands: 0,
            bytes: 0,
            in_flight: 0,
            max,
            dropped: Vec::new(),
            dropped_hints: 0,
        }
    }

    /// Adds a pipeline. Drops the oldest hints if there is no room otherwise.
    ///
    /// # Errors
    /// Gives it back if the queue is full.
    pub(super) fn push(&mut self, pipeline: Pipeline) -> Result<(), Pipeline> {
        while !self.has_room(&pipeline) {
            let Some(oldest) = self.hints.front().copied() else {
                if pipeline.is_hint {
                    self.count_dropped(pipeline.commands);
                }
                return Err(pipeline);
            };
            if let Some(waiting) = self.remove(oldest) {
                self.count_dropped(waiting.pipeline.commands);
                self.dropped.push(waiting.pipeline.then);
            }
        }
        if pipeline.is_hint {
            self.hints.push_back(self.next);
        }
        self.commands += pipeline.commands;
        self.bytes += pipeline.wire.len();
        self.waiting.insert(self.next, Waiting { pipeline, deadline: None });
        self.next += 1;
        Ok(())
    }

    fn has_room(&self, pipeline: &Pipeline) -> bool {
        self.commands + self.in_flight + pipeline.commands <= self.max && self.bytes + pipeline.wire.len() <= MAX_BYTES
    }

    /// Counts hints that were dropped.
    pub(super) fn count_dropped(&mut self, commands: usize) {
        self.dropped_hints = self.dropped_hints.saturating_add(commands as u64);
    }

    pub(super) fn dropped_hints(&self) -> u64 {
        self.dropped_hints
    }

    pub(super) fn set_in_flight(&mut self, commands: usize) {
        self.in_flight = commands;
    }

    /// Gives those that have none a deadline.
    pub(super) fn set_deadlines(&mut self, deadline: Instant) {
        for waiting in self.waiting.range_mut(self.with_deadline..).map(|(_, waiting)| waiting) {
            waiting.deadline = Some(deadline);
        }
        self.with_deadline = self.next;
    }

    /// Returns the next pipeline to send, and its deadline. It must have got one.
    pub(super) fn take(&mut self) -> Option<(Pipeline, Instant)> {
        let deadline = self.deadline()?;
        self.first().map(|waiting| (waiting.pipeline, deadline))
    }

    /// Removes those whose deadline has passed.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Then> {
        let mut expired = Vec::new();
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            expired.extend(self.first().map(|waiting| waiting.pipeline.then));
        }
        expired
    }

    /// Returns the functions of the hints that were dropped since the last call.
    pub(super) fn dropped(&mut self) -> Vec<Then> {
        mem::take(&mut self.dropped)
    }

    /// Removes all.
    pub(super) fn drain(&mut self) -> Vec<Then> {
        let mut all = self.dropped();
        while let Some(waiting) = self.first() {
            all.push(waiting.pipeline.then);
        }
        self.in_flight = 0;
        all
    }

    /// Returns the deadline of the oldest, which is the earliest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value()?.1.deadline
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn first(&mut self) -> Option<Waiting> {
        let number = *self.waiting.first_key_value()?.0;
        self.remove(number)
    }

    /// Removes one that is the oldest, or the oldest hint.
    fn remove(&mut self, number: u64) -> Option<Waiting> {
        if self.hints.front() == Some(&number) {
            self.hints.pop_front();
        }
        let waiting = self.waiting.remove(&number)?;
        self.commands -= waiting.pipeline.commands;
        self.bytes -= waiting.pipeline.wire.len();
        Some(waiting)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the time does not matter")]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use super::*;

    type Log = Arc<Mutex<Vec<&'static str>>>;

    fn pipeline(name: &'static str, commands: usize, is_hint: bool, log: &Log) -> Pipeline {
        let log = log.clone();
        let then = Then::new(move |_| log.lock().unwrap().push(name));
        Pipeline { wire: name.into(), commands, is_hint, then }
    }

    #[test]
    fn the_oldest_hint_is_dropped_if_the_queue_is_full() {
        let (log, mut queue) = (Log::default(), Queue::new(4));
        queue.set_in_flight(1);
        for (name, is_hint) in [("a", false), ("h1", true), ("h2", true)] {
            assert!(queue.push(pipeline(name, 1, is_hint, &log)).is_ok());
        }
        assert!(queue.push(pipeline("h3", 1, true, &log)).is_ok());
        assert!(queue.push(pipeline("b", 1, false, &log)).is_ok());
        assert_eq!((queue.dropped().len(), queue.dropped_hints()), (2, 2));
        assert_eq!(*log.lock().unwrap(), ["h1", "h2"]);
        assert!(queue.push(pipeline("c", 1, false, &log)).is_ok(), "instead of h3");
        assert!(queue.push(pipeline("d", 1, false, &log)).is_err(), "there is no other hint");
        assert!(queue.push(pipeline("h4", 1, true, &log)).is_err());
        assert_eq!(queue.dropped_hints(), 4);
        queue.set_in_flight(0);
        assert!(queue.push(pipeline("e", 1, false, &log)).is_ok());
        queue.set_deadlines(Instant::now());
        let names: Vec<Vec<u8>> = std::iter::from_fn(|| queue.take()).map(|(pipeline, _)| pipeline.wire).collect();
        assert_eq!(names, [b"a", b"b", b"c", b"e"]);
        assert!(queue.is_empty() && queue.commands == 0 && queue.bytes == 0 && queue.hints.is_empty());
    }

    #[test]
    fn hints_that_were_taken_are_not_dropped() {
        let (log, mut queue) = (Log::default(), Queue::new(2));
        let now = Instant::now();
        assert!(queue.push(pipeline("h1", 1, true, &log)).is_ok());
        queue.set_deadlines(now);
        let taken = queue.take();
        for name in ["h2", "h3"] {
            assert!(queue.push(pipeline(name, 1, true, &log)).is_ok());
        }
        assert_eq!(queue.dropped_hints(), 0);
        assert!(queue.push(pipeline("a", 2, false, &log)).is_ok());
        assert_eq!(queue.dropped_hints(), 2);
        assert!(queue.push(pipeline("b", 3, false, &log)).is_err(), "more than the limit");
        drop((taken, queue));
    }

    #[test]
    fn a_deadline_counts_from_the_loop() {
        let (log, mut queue) = (Log::default(), Queue::new(9));
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        assert!(queue.push(pipeline("a", 1, false, &log)).is_ok());
        assert_eq!((queue.deadline(), queue.take().is_none()), (None, true));
        queue.set_deadlines(now + second);
        assert!(queue.push(pipeline("b", 1, false, &log)).is_ok());
        queue.set_deadlines(now + 2 * second);
        assert_eq!(queue.deadline(), Some(now + second));
        assert_eq!(queue.expired(now).len(), 0);
        assert_eq!(queue.expired(now + second).len(), 1);
        assert_eq!(queue.deadline(), Some(now + 2 * second));
        assert!(queue.push(pipeline("c", 1, false, &log)).is_ok());
        assert_eq!(queue.drain().len(), 2);
        assert_eq!(*log.lock().unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (log, mut queue) = (Log::default(), Queue::new(100));
        let mut large = |is_hint| {
            let mut large = pipeline("", 1, is_hint, &log);
            large.wire = vec![0; MAX_BYTES / 2 + 1];
            queue.push(large).is_ok()
        };
        assert!(large(true) && large(false) && !large(false));
        assert_eq!(queue.dropped_hints(), 1);
    }
}
