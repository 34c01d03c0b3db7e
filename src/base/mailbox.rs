//! A queue and a bell: how other threads speak to a loop.
//!
//! ```text
//!   any thread ──post──▶ [ queue ] ──drain──▶ the loop
//!                  └─ rings the bell, but only if the loop sleeps, and once per sleep
//! ```
//! A message is either taken by the loop or given back: to the poster if the box is closed already, and to whoever
//! closes it if it was still inside. None is lost between the two.

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
    fn ring(&self);
}

pub(crate) struct Mailbox<M> {
    queue: Mutex<Option<Vec<M>>>,
    pending: AtomicBool,
    sleeping: AtomicBool,
    bell: Box<dyn Notifier>,
}

impl<M> Mailbox<M> {
    pub(crate) fn new(bell: Box<dyn Notifier>) -> Self {
        // Asleep at first: what is posted before the first turn rings.
        Self {
            queue: Mutex::new(Some(Vec::new())),
            pending: AtomicBool::new(false),
            sleeping: AtomicBool::new(true),
            bell,
        }
    }

    /// Leaves a message; gives it back if nobody will ever read it.
    pub(crate) fn post(&self, message: M) -> Result<(), M> {
        match &mut *lock(&self.queue) {
            Some(queue) => queue.push(message),
            None => return Err(message),
        }
        self.pending.store(true, SeqCst);
        if self.sleeping.swap(false, SeqCst) {
            self.bell.ring();
        }
        Ok(())
    }

    /// The loop is up: from here on posting does not ring.
    pub(crate) fn awake(&self) {
        // Nothing hangs on when others see this: who still takes the loop for asleep rings once in vain.
        self.sleeping.store(false, Relaxed);
    }

    /// The loop is about to sleep: from here on the first post rings. `false` if there is mail: then it must not.
    pub(crate) fn sleep(&self) -> bool {
        self.sleeping.store(true, SeqCst);
        let empty = !self.pending.load(SeqCst);
        if !empty {
            self.sleeping.store(false, SeqCst);
        }
        empty
    }

    /// Moves what is there into `into`, which must be empty (its allocation becomes the queue's).
    pub(crate) fn drain(&self, into: &mut Vec<M>) {
        // A look costs nothing, a swap a locked instruction: and a turn mostly finds no mail.
        if self.is_empty() || !self.pending.swap(false, SeqCst) {
            return;
        }
        if let Some(queue) = &mut *lock(&self.queue) {
            std::mem::swap(queue, into);
        }
    }

    /// Whether there is nothing to be taken out.
    pub(crate) fn is_empty(&self) -> bool {
        !self.pending.load(SeqCst)
    }

    /// Closes the box and returns what was in it.
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
        fn ring(&self) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn mailbox() -> (Mailbox<u32>, Arc<AtomicUsize>) {
        let rings = Arc::new(AtomicUsize::new(0));
        (Mailbox::new(Box::new(Count(rings.clone()))), rings)
    }

    #[test]
    fn rings_once_per_sleep_and_never_while_awake() {
        let (mail, rings) = mailbox();
        mail.awake();
        mail.post(1).expect("open");
        assert_eq!(rings.load(SeqCst), 0);
        assert!(!mail.sleep(), "there is mail: no sleep");
        let mut got = Vec::new();
        mail.drain(&mut got);
        assert_eq!(got, [1]);
        assert!(mail.sleep());
        mail.post(2).expect("open");
        mail.post(3).expect("open");
        assert_eq!(rings.load(SeqCst), 1);
    }

    #[test]
    fn closing_gives_everything_back() {
        let (mail, _) = mailbox();
        mail.post(1).expect("open");
        assert_eq!(mail.close(), [1]);
        assert_eq!(mail.post(2), Err(2));
        assert!(mail.close().is_empty());
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let (mail, _) = mailbox();
        let mail = Arc::new(mail);
        let threads: Vec<_> = (0..4)
            .map(|t| {
                let mail = mail.clone();
                std::thread::spawn(move || (0..1000).filter(|i| mail.post(t * 1000 + i).is_ok()).count())
            })
            .collect();
        let (mut got, mut batch) = (0, Vec::new());
        while got < 2000 {
            mail.drain(&mut batch);
            got += batch.drain(..).count();
            std::thread::yield_now();
        }
        let rest = mail.close().len();
        let posted: usize = threads.into_iter().map(|t| t.join().expect("no panic")).sum();
        assert_eq!(posted, got + rest);
    }
}
