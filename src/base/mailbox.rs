//! A queue and a notifier, by which other threads reach a loop.
//!
//! ```text
//!   any thread ──post──▶ [ queue ] ──drain──▶ the loop
//!                  └─ notifies, but only if the loop sleeps, and once for each sleep
//! ```
//! A message is either taken by the loop or given back: to the poster if the mailbox is closed already, and to the
//! caller of `close` if it was still inside. None is lost between the two.

use std::sync::{
    Mutex,
    atomic::{
        AtomicBool,
        Ordering::{Relaxed, SeqCst},
    },
};

use super::lock;

/// Wakes a sleeping loop. The engine's is an eventfd.
pub(crate) trait Notifier: Send + Sync {
    fn notify(&self);
}

pub(crate) struct Mailbox<M> {
    queue: Mutex<Option<Vec<M>>>,
    pending: AtomicBool,
    sleeping: AtomicBool,
    notifier: Box<dyn Notifier>,
}

impl<M> Mailbox<M> {
    pub(crate) fn new(notifier: Box<dyn Notifier>) -> Self {
        // Asleep at first: a message before the first turn notifies.
        Self {
            queue: Mutex::new(Some(Vec::new())),
            pending: AtomicBool::new(false),
            sleeping: AtomicBool::new(true),
            notifier,
        }
    }

    /// Posts a message. Gives it back if the mailbox is closed.
    pub(crate) fn post(&self, message: M) -> Result<(), M> {
        match &mut *lock(&self.queue) {
            Some(queue) => queue.push(message),
            None => return Err(message),
        }
        self.pending.store(true, SeqCst);
        if self.sleeping.swap(false, SeqCst) {
            self.notifier.notify();
        }
        Ok(())
    }

    /// Notes that the loop is awake: from now on posting does not notify.
    pub(crate) fn awake(&self) {
        // Relaxed is enough: a poster that reads a stale `true` causes one spurious wake-up.
        self.sleeping.store(false, Relaxed);
    }

    /// Notes that the loop is about to sleep: from now on the first post notifies. Returns `false` if there are
    /// messages: then the loop must not sleep.
    pub(crate) fn sleep(&self) -> bool {
        self.sleeping.store(true, SeqCst);
        let empty = !self.pending.load(SeqCst);
        if !empty {
            self.sleeping.store(false, SeqCst);
        }
        empty
    }

    /// Moves all messages into `into`, which must be empty (its allocation becomes the queue's).
    pub(crate) fn drain(&self, into: &mut Vec<M>) {
        // A load costs nothing, a swap costs a locked instruction, and most turns find no message.
        if self.is_empty() || !self.pending.swap(false, SeqCst) {
            return;
        }
        if let Some(queue) = &mut *lock(&self.queue) {
            std::mem::swap(queue, into);
        }
    }

    /// Returns `true` if there is no message.
    pub(crate) fn is_empty(&self) -> bool {
        !self.pending.load(SeqCst)
    }

    /// Closes the mailbox and returns the messages that were in it.
    pub(crate) fn close(&self) -> Vec<M> {
        lock(&self.queue).take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use super::*;

    struct Count(Arc<AtomicUsize>);
    impl Notifier for Count {
        fn notify(&self) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn new_mailbox() -> (Mailbox<u32>, Arc<AtomicUsize>) {
        let notified = Arc::new(AtomicUsize::new(0));
        (Mailbox::new(Box::new(Count(notified.clone()))), notified)
    }

    #[test]
    fn notifies_once_per_sleep_and_never_while_awake() {
        let (mailbox, notified) = new_mailbox();
        mailbox.awake();
        mailbox.post(1).expect("open");
        assert_eq!(notified.load(SeqCst), 0);
        assert!(!mailbox.sleep(), "there is a message: no sleep");
        let mut got = Vec::new();
        mailbox.drain(&mut got);
        assert_eq!(got, [1]);
        assert!(mailbox.sleep());
        mailbox.post(2).expect("open");
        mailbox.post(3).expect("open");
        assert_eq!(notified.load(SeqCst), 1);
    }

    #[test]
    fn closing_gives_everything_back() {
        let (mailbox, _) = new_mailbox();
        mailbox.post(1).expect("open");
        assert_eq!(mailbox.close(), [1]);
        assert_eq!(mailbox.post(2), Err(2));
        assert!(mailbox.close().is_empty());
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let (mailbox, _) = new_mailbox();
        let mailbox = Arc::new(mailbox);
        let threads: Vec<_> = (0..4)
            .map(|t| {
                let mailbox = mailbox.clone();
                std::thread::spawn(move || (0..1000).filter(|i| mailbox.post(t * 1000 + i).is_ok()).count())
            })
            .collect();
        let (mut got, mut batch) = (0, Vec::new());
        while got < 2000 {
            mailbox.drain(&mut batch);
            got += batch.drain(..).count();
            std::thread::yield_now();
        }
        let rest = mailbox.close().len();
        let posted: usize = threads.into_iter().map(|t| t.join().expect("no panic")).sum();
        assert_eq!(posted, got + rest);
    }
}
