//! The one thread that writes the file.
//!
//! Whatever was asked for while the disk was busy is written together and is durable with one
//! sync: a thousand callers at once wait hardly longer than one. Between two entries it may
//! stop to have images made of what is known right there.

use super::cuts::Cuts;
use super::draft::{Draft, Step};
use super::ledger::{Settled, Standing};
use super::maker::{Maker, Order};
use super::tail::Tail;
use super::{ENTRY_RECORDS_MAX, Entry, Fault, NotAccepted, NotApplied, Shared};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_core::revoke::Position;
use tokio::sync::{mpsc, oneshot};

/// How many records are written at once. More would only make those wait that came first.
const TOGETHER_MAX: usize = 16_384;

/// How often a disk that failed is tried while nobody asks for anything.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// Something to write, and whom to tell.
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) done: oneshot::Sender<Result<Position, NotDone>>,
}

/// Something to write.
pub(super) enum Task {
    /// One thing.
    One(Step),
    /// Entries of the shared log, each of which follows on the one before.
    Apply(Vec<Entry>),
    /// Nothing, but it is time to look whether images are to be made, and whether a disk that
    /// failed works again.
    Look,
    /// Nothing, but enough of what is there is over: it is worth making a run without it.
    Settle,
    /// A run that was made.
    Settled(Settled),
}

/// Why it was not written.
#[derive(Clone, Debug)]
pub(super) enum NotDone {
    Gap,
    HeldMax,
    Fault(Fault),
    Ending,
}

/// Who writes.
pub(super) struct Scribe {
    shared: Arc<Shared>,
    cuts: Cuts,
    maker: Maker,
    /// Whether the last order was a run: then images come first, for a run may fail for long.
    is_run_last: bool,
    /// When a disk that failed was tried last.
    tried: Instant,
}

/// Steps of one job, and how it ends.
struct Open {
    steps: usize,
    end: Result<Position, NotDone>,
    done: oneshot::Sender<Result<Position, NotDone>>,
}

impl Scribe {
    pub(super) fn new(shared: Arc<Shared>, maker: Maker) -> Self {
        let (cuts, tried) = (Cuts::default(), Instant::now());
        Self { shared, cuts, maker, is_run_last: false, tried }
    }

    /// Writes until nobody can ask for it any more.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        self.look();
        while let Some(first) = waiting.blocking_recv() {
            let mut together = first.task.len();
            let mut jobs = vec![first];
            while together < TOGETHER_MAX
                && let Ok(next) = waiting.try_recv()
            {
                together += next.task.len();
                jobs.push(next);
            }
            self.write(jobs);
        }
    }

    /// Does all of these, and tells whoever waits for them.
    pub(super) fn write(&mut self, jobs: Vec<Job>) {
        let (mut steps, mut open) = (VecDeque::new(), VecDeque::new());
        for Job { task, done } in jobs {
            let before = steps.len();
            let end = match task {
                Task::One(step) => {
                    steps.push_back(step);
                    Ok(())
                }
                Task::Apply(entries) if !follow_each_other(&entries) => Err(NotDone::Gap),
                Task::Apply(entries) => {
                    steps.extend(entries.into_iter().map(Step::Apply));
                    Ok(())
                }
                Task::Look => {
                    self.look();
                    Ok(())
                }
                Task::Settle => {
                    self.settle();
                    Ok(())
                }
                Task::Settled(settled) => self.settled(settled),
            };
            let end = end.map(|()| self.shared.now().standing.position);
            open.push_back(Open { steps: steps.len() - before, end, done });
        }
        while !steps.is_empty() {
            if let Err(fault) = self.write_some(&mut steps, &mut open) {
                return self.failed(open, &fault);
            }
        }
        open.into_iter().for_each(Open::tell);
    }

    /// Writes steps up to where images are to be made, or all.
    fn write_some(
        &mut self,
        steps: &mut VecDeque<Step>,
        open: &mut VecDeque<Open>,
    ) -> Result<(), Fault> {
        let now_ms = self.shared.wall.now_ms();
        if steps.front().is_some_and(|step| self.cuts_before(step, now_ms)) {
            self.cut();
        }
        let (mut standing, mut draft) = {
            let now = self.shared.now();
            (now.standing.clone(), Draft::of(&now, now_ms))
        };
        let records = steps.iter().map(Step::adds).sum();
        let (mut ends, mut is_cut) = (Vec::new(), false);
        let shared = self.shared.clone();
        shared.ledger.change(&mut standing, records, |change| {
            while let Some(step) = steps.get(ends.len()) {
                if !ends.is_empty() && self.cuts_before(step, now_ms) {
                    is_cut = true;
                    break;
                }
                ends.push(draft.add(change, step)?);
                if self.cuts_behind(step, now_ms) {
                    is_cut = true;
                    break;
                }
            }
            Ok(())
        })?;
        steps.drain(..ends.len());
        self.publish(standing, draft);
        if is_cut {
            self.cut();
        }
        for end in ends {
            while open.front().is_some_and(|first| first.steps == 0) {
                open.pop_front().into_iter().for_each(Open::tell);
            }
            if let Some(first) = open.front_mut() {
                first.steps -= 1;
                first.end = first.end.clone().and(end);
            }
        }
        Ok(())
    }

    fn publish(&self, standing: Standing, draft: Draft) {
        let mut now = self.shared.now();
        if let Some(start) = draft.anew {
            now.tail = Tail::new(start);
            now.shelf.clear();
        }
        now.standing = standing;
        if now.held != draft.held {
            now.held = draft.held;
            now.holds += 1;
        }
        now.fault = None;
        draft.lines.into_iter().for_each(|line| now.tail.push(line));
        drop(now);
        self.shared.tell();
    }

    /// Nothing of what is still open was done.
    fn failed(&mut self, open: VecDeque<Open>, fault: &Fault) {
        let (standing, is_new) = {
            let mut now = self.shared.now();
            let is_new = now.fault.as_ref() != Some(fault);
            now.fault = Some(fault.clone());
            (now.standing.clone(), is_new)
        };
        if is_new {
            tracing::error!(%fault, "revocations cannot be written: none is accepted");
        }
        for job in open {
            let _ = job.done.send(match job.steps {
                0 => job.end,
                _ => Err(NotDone::Fault(fault.clone())),
            });
        }
        if let Err(fault) = self.shared.ledger.reopen(&standing)
            && is_new
        {
            tracing::error!(%fault, "revocations cannot be read either");
        }
    }

    /// Looks whether images are to be made, and whether a disk that failed works again.
    pub(super) fn look(&mut self) {
        let now_ms = self.shared.wall.now_ms();
        let (is_broken, lacks, mut standing) = {
            let now = self.shared.now();
            (now.fault.is_some(), now.shelf.lacks(Instant::now()), now.standing.clone())
        };
        if is_broken && self.tried.elapsed() >= TRY_EVERY {
            self.tried = Instant::now();
            match self.shared.ledger.change(&mut standing, 1, |_| Ok(())) {
                Ok(()) => {
                    tracing::info!("revocations can be written again");
                    self.shared.now().fault = None;
                }
                Err(fault) => return self.failed(VecDeque::new(), &fault),
            }
        }
        let ids = standing.tally.revoking();
        if lacks || self.cuts.meanwhile(now_ms, ids) {
            self.cut();
        } else if standing.is_due_to_settle() {
            self.settle();
        }
    }

    fn cuts_before(&mut self, step: &Step, now_ms: u64) -> bool {
        let ids = self.shared.now().standing.tally.revoking();
        let entry = step.entry(now_ms);
        entry.is_some_and(|(made_ms, _)| self.cuts.before(made_ms, now_ms, ids))
            && self.maker.is_free()
    }

    fn cuts_behind(&mut self, step: &Step, now_ms: u64) -> bool {
        let ids = self.shared.now().standing.tally.revoking();
        let entry = step.entry(now_ms);
        entry.is_some_and(|(_, records)| self.cuts.behind(records, ids)) && self.maker.is_free()
    }

    /// Has a run made of what is recent, unless the maker has something else to do, or all is in
    /// memory; returns whether it is being made.
    fn settle(&mut self) -> bool {
        if !self.maker.is_free() {
            return false;
        }
        let mut standing = self.shared.now().standing.clone();
        match self.shared.ledger.settle(&mut standing) {
            Ok(settling) => {
                self.shared.now().standing = standing;
                let is_made = settling.is_some();
                self.is_run_last = is_made;
                settling.into_iter().for_each(|it| self.maker.order(Order::Run(it)));
                is_made
            }
            Err(fault) => {
                self.failed(VecDeque::new(), &fault);
                false
            }
        }
    }

    fn settled(&mut self, settled: Settled) -> Result<(), NotDone> {
        let mut standing = self.shared.now().standing.clone();
        match self.shared.ledger.settled(&mut standing, settled) {
            Ok(()) => {
                self.shared.now().standing = standing;
                Ok(())
            }
            Err(fault) => {
                self.failed(VecDeque::new(), &fault);
                Err(NotDone::Fault(fault))
            }
        }
    }

    /// Has images made of what is known now, unless some are being made.
    fn cut(&mut self) {
        if !self.maker.is_free() {
            return;
        }
        let standing = self.shared.now().standing.clone();
        // First: images are quicker to make of what has settled.
        if standing.is_due_to_settle() && !self.is_run_last && self.settle() {
            return;
        }
        self.is_run_last = false;
        match self.shared.ledger.snapshot(&standing) {
            Ok(snapshot) => {
                self.cuts.cut();
                self.maker.order(Order::Images(snapshot));
            }
            Err(fault) => tracing::warn!(%fault, "no images of revocations can be made"),
        }
    }
}

impl Open {
    fn tell(self) {
        // Whoever asked may be gone.
        let _ = self.done.send(self.end);
    }
}

impl Task {
    /// How many records it has.
    fn len(&self) -> usize {
        match self {
            Self::One(step) => step.len(),
            Self::Apply(entries) => entries.iter().map(|entry| entry.records.len()).sum(),
            Self::Look | Self::Settle | Self::Settled(_) => 0,
        }
    }
}

fn follow_each_other(entries: &[Entry]) -> bool {
    let follows = |two: &[Entry]| {
        let (last, next) = (&two[0].position, &two[1].position);
        (next.log, next.number) == (last.log, last.number + 1)
    };
    let fits = |entry: &Entry| entry.records.len() <= ENTRY_RECORDS_MAX;
    entries.windows(2).all(follows) && entries.iter().all(fits)
}

impl From<NotDone> for NotAccepted {
    fn from(not: NotDone) -> Self {
        match not {
            NotDone::HeldMax => Self::HeldMax,
            NotDone::Fault(fault) => Self::Fault(fault),
            // Nothing that is accepted has to follow on anything.
            NotDone::Gap | NotDone::Ending => Self::Ending,
        }
    }
}

impl From<NotDone> for NotApplied {
    fn from(not: NotDone) -> Self {
        match not {
            NotDone::Gap => Self::Gap,
            NotDone::Fault(fault) => Self::Fault(fault),
            // Nothing that is applied is held.
            NotDone::HeldMax | NotDone::Ending => Self::Ending,
        }
    }
}
