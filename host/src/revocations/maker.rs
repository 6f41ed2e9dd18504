//! Who makes images, and forgets what is over: never in the way of what is to be written.

use super::cuts::WINDOW_MS;
use super::draft::Step;
use super::images::{Members, Times};
use super::ledger::Snapshot;
use super::scribe::{Job, Task};
use super::{Fault, Shared};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use tidegate_core::revoke::Record;
use tokio::sync::mpsc::WeakSender;
use tokio::sync::oneshot;

/// How often it is looked whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The longest time between two looks for what is over; a twelfth of a generation otherwise.
const FORGET_EVERY_MAX: Duration = Duration::from_secs(600);

/// The longest rest after images were made. It is as long as that took, so that one core has at
/// most half of its time to do, however much comes.
const REST_MAX: Duration = Duration::from_secs(30);

/// How many records are forgotten at once: whoever accepts meanwhile waits for that.
const FORGOTTEN_MAX: usize = 4_096;

/// How the scribe has images made.
pub(super) enum Maker {
    /// On a thread of its own.
    Thread(SyncSender<Snapshot>, Arc<AtomicBool>),
    /// Right here.
    Here(Arc<Shared>),
}

impl Maker {
    /// Whether it would make some now.
    pub(super) fn is_free(&self) -> bool {
        match self {
            Self::Thread(_, is_busy) => !is_busy.load(Ordering::Acquire),
            Self::Here(_) => true,
        }
    }

    /// Makes images of this.
    pub(super) fn make(&self, snapshot: Snapshot) {
        match self {
            Self::Thread(orders, is_busy) => {
                is_busy.store(true, Ordering::Release);
                // There is room, for it was free; or it has ended, and so will the scribe.
                let _ = orders.try_send(snapshot);
            }
            Self::Here(shared) => shared.make(snapshot),
        }
    }
}

/// Makes images as they are ordered, and looks for what else there is to do, until the scribe
/// has ended.
pub(super) fn run(
    shared: &Shared,
    orders: &Receiver<Snapshot>,
    is_busy: &AtomicBool,
    jobs: &WeakSender<Job>,
) {
    let mut forgot = Instant::now();
    let forget_every = Duration::from_secs((shared.span_secs / 12).max(1).into());
    let (mut rests_until, mut rests) = (Instant::now(), false);
    loop {
        match orders.recv_timeout(LOOK_EVERY) {
            Ok(snapshot) => {
                let began = Instant::now();
                shared.make(snapshot);
                rests_until = Instant::now() + began.elapsed().min(REST_MAX);
                rests = true;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if rests && Instant::now() >= rests_until {
            rests = false;
            is_busy.store(false, Ordering::Release);
        }
        shared.id_keys.look();
        if write(jobs, Task::Look).is_none() {
            return;
        }
        if forgot.elapsed() >= forget_every.min(FORGET_EVERY_MAX) {
            forgot = Instant::now();
            let forget = |gone| write(jobs, Task::One(Step::Forget(gone))).is_some();
            if let Err(fault) = shared.forget(forget) {
                tracing::warn!(%fault, "revocations that are over cannot be looked for");
            }
        }
    }
}

/// Has something written; `None` if nobody will.
fn write(jobs: &WeakSender<Job>, task: Task) -> Option<()> {
    let (done, answer) = oneshot::channel();
    jobs.upgrade()?.blocking_send(Job { task, done }).ok()?;
    let _ = answer.blocking_recv().ok()?;
    Some(())
}

impl Shared {
    /// Makes images of what was known then, and shows them to proxies.
    fn make(&self, snapshot: Snapshot) {
        let began = Instant::now();
        match self.try_make(&snapshot) {
            Ok(()) => self.meters.made(began.elapsed()),
            Err(_) if self.is_ending.load(Ordering::Relaxed) => {}
            Err(what) => {
                self.meters.not_made();
                tracing::error!(what, "no images of revocations: proxies go on with the last");
            }
        }
    }

    fn try_make(&self, snapshot: &Snapshot) -> Result<(), String> {
        let forms: Vec<_> = {
            let now = self.now();
            let forms = now.shelf.wanted(Instant::now());
            forms.map(|form| (form, now.shelf.set(form).cloned())).collect()
        };
        let times = self.times(self.wall.now_ms() / WINDOW_MS * (WINDOW_MS / 1_000));
        let sizes = forms.iter().find_map(|(_, last)| last.as_deref());
        let members = Members::of(snapshot, &times, sizes).map_err(|fault| self.damaged(fault))?;
        let mut sets = Vec::with_capacity(forms.len());
        for (form, last) in &forms {
            sets.push((*form, Arc::new(members.make(*form, last.as_deref())?)));
        }
        let mut now = self.now();
        // The log may have become another meanwhile.
        if now.standing.position.log == snapshot.position.log {
            now.shelf.put(sets, Instant::now());
            drop(now);
            self.tell();
        }
        Ok(())
    }

    /// Goes through all records and has those forgotten that are over, until `forget` will not.
    pub(super) fn forget(&self, mut forget: impl FnMut(Vec<Record>) -> bool) -> Result<(), Fault> {
        let times = self.times(self.wall.now_ms() / 1_000);
        let mut after = None;
        loop {
            let page = self.page(after, usize::MAX, |record| times.is_over(record.until_secs))?;
            for over in page.records.chunks(FORGOTTEN_MAX) {
                if !forget(over.to_vec()) {
                    return Ok(());
                }
            }
            after = page.next;
            if after.is_none() || self.is_ending.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    fn times(&self, as_of_secs: u64) -> Times {
        Times { as_of_secs, span_secs: self.span_secs, leeway_secs: self.leeway_secs }
    }

    /// What cannot be read now may not be believed later.
    fn damaged(&self, fault: Fault) -> String {
        let what = fault.to_string();
        self.now().fault = Some(fault);
        what
    }
}
