//! Who makes images, and runs of what is recent: never in the way of what is to be written.

use super::cuts::WINDOW_MS;
use super::images::{Members, Times};
use super::ledger::{Settling, Snapshot};
use super::scribe::{Job, Task};
use super::{Fault, Shared};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use tidegate_core::revoke::Record;
use tokio::sync::mpsc::WeakSender;
use tokio::sync::oneshot;

/// How often it is looked whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The longest time between two counts of what is over; a twelfth of a generation otherwise.
const COUNT_EVERY_MAX: Duration = Duration::from_secs(600);

/// When a sixteenth of all is over the rest is written without it.
const OVER_PART: u64 = 16;

/// The longest rest after images were made. It is as long as that took, so that one core has at
/// most half of its time to do, however much comes.
const REST_MAX: Duration = Duration::from_secs(30);

/// What the scribe has made.
pub(super) enum Order {
    /// Images of this.
    Images(Snapshot),
    /// A run of this.
    Run(Settling),
}

/// How the scribe has it made.
pub(super) enum Maker {
    /// On a thread of its own.
    Thread(SyncSender<Order>, Arc<Busy>),
    /// Right here: nothing settles in memory.
    Here(Arc<Shared>),
}

/// The thread.
pub(super) struct Making {
    pub(super) shared: Arc<Shared>,
    pub(super) orders: Receiver<Order>,
    pub(super) busy: Arc<Busy>,
    pub(super) jobs: WeakSender<Job>,
    /// When runs are tried again, if one could not be written.
    pub(super) not_before: Cell<Instant>,
}

/// What the thread is doing.
#[derive(Default)]
pub(super) struct Busy {
    makes: AtomicBool,
    /// It has made images, and does not so soon again.
    rests: AtomicBool,
}

impl Maker {
    /// Whether it would make a run now.
    pub(super) fn is_free(&self) -> bool {
        match self {
            Self::Thread(_, busy) => !busy.makes.load(Ordering::Acquire),
            Self::Here(_) => true,
        }
    }

    /// Whether it would make images now.
    pub(super) fn has_rested(&self) -> bool {
        match self {
            Self::Thread(_, busy) => self.is_free() && !busy.rests.load(Ordering::Acquire),
            Self::Here(_) => true,
        }
    }

    /// Makes this.
    pub(super) fn order(&self, order: Order) {
        match (self, order) {
            (Self::Thread(orders, busy), order) => {
                busy.makes.store(true, Ordering::Release);
                // There is room, for it was free; or it has ended, and so will the scribe.
                let _ = orders.try_send(order);
            }
            (Self::Here(shared), Order::Images(snapshot)) => shared.make(&snapshot),
            (Self::Here(_), Order::Run(_)) => {}
        }
    }
}

impl Making {
    /// Makes what is ordered, and looks for what else there is to do, until the scribe has ended.
    pub(super) fn run(self) {
        let twelfth = Duration::from_secs((self.shared.span_secs / 12).max(1).into());
        let count_every = twelfth.min(COUNT_EVERY_MAX);
        let mut counted = Instant::now();
        let mut rests_until = Instant::now();
        loop {
            match self.orders.recv_timeout(LOOK_EVERY) {
                Ok(order) => {
                    rests_until = rests_until.max(Instant::now() + self.make(order));
                    self.busy.rests.store(true, Ordering::Release);
                    self.busy.makes.store(false, Ordering::Release);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.busy.rests.store(Instant::now() < rests_until, Ordering::Release);
            if self.shared.id_keys.look() {
                self.shared.tell();
            }
            let mut is_written = self.write(Task::Look);
            if counted.elapsed() >= count_every {
                counted = Instant::now();
                if self.shared.is_worth_settling() {
                    is_written = self.write(Task::Settle);
                }
            }
            if is_written.is_none() {
                return;
            }
        }
    }

    /// Makes what is ordered; returns how long to rest then.
    fn make(&self, order: Order) -> Duration {
        let began = Instant::now();
        match order {
            Order::Images(snapshot) => {
                self.shared.make(&snapshot);
                began.elapsed().min(REST_MAX)
            }
            Order::Run(_) if Instant::now() < self.not_before.get() => Duration::ZERO,
            Order::Run(settling) => match self.settle(&settling) {
                Ok(()) => Duration::ZERO,
                Err(_) if self.shared.is_ending.load(Ordering::Relaxed) => Duration::ZERO,
                Err(fault) => {
                    tracing::error!(%fault, "revocations cannot be written in order");
                    self.not_before.set(Instant::now() + REST_MAX);
                    Duration::ZERO
                }
            },
        }
    }

    fn settle(&self, settling: &Settling) -> Result<(), Fault> {
        let times = self.shared.times(self.shared.wall.now_ms() / 1_000);
        let settled = settling
            .write(move |record| times.is_over(record.until_secs), || self.shared.may_go_on())?;
        self.write(Task::Settled(settled));
        Ok(())
    }

    /// Has something written; `None` if nobody will.
    fn write(&self, task: Task) -> Option<()> {
        let (done, answer) = oneshot::channel();
        self.jobs.upgrade()?.blocking_send(Job { task, done }).ok()?;
        let _ = answer.blocking_recv().ok()?;
        Some(())
    }
}

impl Shared {
    /// Makes images of what was known then, and shows them to proxies.
    fn make(&self, snapshot: &Snapshot) {
        let began = Instant::now();
        match self.try_make(snapshot) {
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
        let members = Members::of(snapshot, &times, sizes, || self.may_go_on());
        let members = members.map_err(|fault| self.damaged(fault))?;
        let mut sets = Vec::with_capacity(forms.len());
        for (form, last) in &forms {
            sets.push((*form, Arc::new(members.make(*form, last.as_deref())?)));
        }
        let mut now = self.now();
        // The log may have become another meanwhile.
        if now.standing.position.log == snapshot.position().log {
            now.shelf.put(sets, Instant::now());
            drop(now);
            self.tell();
        }
        Ok(())
    }

    /// Whether so much is over that it is worth writing all the rest anew.
    fn is_worth_settling(&self) -> bool {
        let times = self.times(self.wall.now_ms() / 1_000);
        let mut over = 0;
        let looked = self.ledger.scan(None, |record| {
            over += u64::from(times.is_over(record.until_secs));
            !self.is_ending.load(Ordering::Relaxed)
        });
        match looked {
            Ok(()) => over > 0 && over * OVER_PART >= self.now().standing.tally.all(),
            Err(fault) => {
                tracing::warn!(%fault, "revocations that are over cannot be counted");
                false
            }
        }
    }

    /// What is over of all that is kept in memory.
    pub(super) fn over(&self) -> Vec<Record> {
        let times = self.times(self.wall.now_ms() / 1_000);
        let mut over = Vec::new();
        let looked = self.ledger.scan(None, |record| {
            if times.is_over(record.until_secs) {
                over.push(*record);
            }
            true
        });
        looked.map(|()| over).unwrap_or_default()
    }

    fn times(&self, as_of_secs: u64) -> Times {
        Times { as_of_secs, span_secs: self.span_secs, leeway_secs: self.leeway_secs }
    }

    /// What takes long ends when the process does.
    fn may_go_on(&self) -> Result<(), Fault> {
        match self.is_ending.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Fault::Io("this process is ending".to_owned())),
        }
    }

    /// What is not as it was written may not be believed later.
    fn damaged(&self, fault: Fault) -> String {
        let what = fault.to_string();
        if matches!(fault, Fault::Damaged(_)) {
            self.now().damage = Some(fault);
        }
        what
    }
}
