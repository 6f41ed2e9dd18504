//! What holder and store say to each other.

use super::record::scatter;
use crate::ask::LimitTag;
use crate::key::Key;
use crate::limit::Quota;
use crate::time::Span;
use alloc::vec::Vec;

/// The most keys of one [`Ask`]: a tick's settlements of a busy process, in about 7 KiB.
pub const WANTS_MAX: usize = 64;

/// The most epochs of which one [`Want`] tells what became: as many as a holder has lots.
pub const SETTLED_MAX: usize = super::LOTS_MAX;

/// Who asks: a process, drawn at random when it starts and never used again, and which of
/// its workers, each of which numbers its own asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderId(pub u64);

impl HolderId {
    /// One of up to 256 workers of a process.
    pub const fn new(process: u64, worker: u8) -> Self {
        Self(process << 8 | worker as u64)
    }

    /// The same for all workers of a process: they hold together.
    pub const fn process(self) -> u64 {
        self.0 >> 8
    }

    /// Which of 32 places its process is counted at, where a record counts holders.
    pub const fn place(self) -> u8 {
        (scatter(self.process()) % 32) as u8
    }
}

/// What one process asks of the store, of one or several keys; each stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who asks.
    pub holder: HolderId,
    /// Its how-manieth ask this is, from 1: so that one that comes twice settles once.
    pub seq: u64,
    /// One to [`WANTS_MAX`] keys, none twice.
    pub wants: Vec<Want>,
}

/// What a holder tells and wants of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Whose budget.
    pub key: Key,
    /// Of which limit.
    pub limit: LimitTag,
    /// How large it is.
    pub quota: Quota,
    /// Units of the burst that are not to be granted; less than the burst.
    pub reserve: u32,
    /// The era of what it holds; 0 if it holds nothing and remembers nothing.
    pub era: u32,
    /// The record's version when it last heard of it; 0 with era 0.
    pub version: u32,
    /// What became of units granted in that era. Said once: if it is lost, they lapse.
    pub settled: [Settled; SETTLED_MAX],
    /// Units that this holder knows to be taken of the budget by itself and not refilled yet:
    /// what a store that has forgotten the key starts from.
    pub known: u32,
    /// Units used without a grant, charged whatever becomes of the rest. Said again until
    /// there is a reply: charged twice is the safe direction.
    pub owed: u32,
    /// Units wanted in all; 0 only tells.
    pub units: u32,
    /// How many of those go to requests that wait for them: they are used as the reply comes,
    /// within [`SOON_LIFE`](super::SOON_LIFE) from now, or never.
    pub soon: u32,
    /// The fewest units that are of any use: what the first request that waits costs. None
    /// are granted rather than fewer.
    pub least: u32,
    /// What is wanted of this holder lately, in thousandths of a unit a second.
    pub rate_milli: u64,
    /// Units wanted of it since it last told.
    pub tried: u32,
}

impl Want {
    /// Whether requests wait for it; otherwise it may take a moment longer.
    pub const fn is_waited_for(&self) -> bool {
        self.soon > 0 || self.least > 0
    }

    /// Of somebody who holds nothing, tells nothing and wants nothing.
    pub const fn nothing(key: Key, limit: LimitTag, quota: Quota) -> Self {
        Self {
            key,
            limit,
            quota,
            reserve: 0,
            era: 0,
            version: 0,
            settled: [Settled { epoch: 0, spent: 0, returned: 0 }; SETTLED_MAX],
            known: 0,
            owed: 0,
            units: 0,
            soon: 0,
            least: 0,
            rate_milli: 0,
            tried: 0,
        }
    }
}

/// What became of units granted in one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Which epoch, as the [`Grant`] said.
    pub epoch: u32,
    /// Units spent.
    pub spent: u32,
    /// Units that will not be spent.
    pub returned: u32,
}

/// What the store answers to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The ask's.
    pub seq: u64,
    /// One per want, in their order: what it is granted, or that nobody could say.
    pub grants: Vec<Result<Grant, Away>>,
}

/// Whoever keeps a key gave no answer, and for how long none by now; zero if it is not known to
/// be away for longer. Others of the same ask were answered: of a cluster one shard is away.
///
/// It is not known what became of the want. What it told is never told again, what it owed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away(pub Span);

/// What a holder is granted of one key. The default grants nothing, and says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Units granted, at most those wanted.
    pub units: u32,
    /// How many of those are for requests that wait, and outstanding only shortly: at most as
    /// many as were wanted soon.
    pub soon: u32,
    /// The era and epoch to settle them under.
    pub era: u32,
    /// See [`Self::era`].
    pub epoch: u32,
    /// The record's version.
    pub version: u32,
    /// How long a holder that has nothing left should refuse without asking. Zero if it may
    /// ask again at once.
    pub wait: Span,
    /// The time that a lease should last.
    pub horizon: Span,
    /// Whole units left after this grant.
    pub remaining: u32,
    /// What is wanted of all holders lately, in thousandths of a unit a second.
    pub rate_milli: u64,
    /// The asking proxy's share of the limit's recent demand, as in
    /// [`Answer`](crate::ask::Answer): whoever carries a record's grant adds it.
    pub share_ppm: u32,
}
