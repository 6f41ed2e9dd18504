//! What the gate stands on in a proxy: shared data of the process, and its monotone clock.

use crate::abi::{self, Failure};
use tidegate_core::gate::{Ground, SharedPlace};
use tidegate_core::lease::HolderId;
use tidegate_core::table::{Conflict, SET_BYTES, Slots, Table, read_set};
use tidegate_core::time::{Instant, Span};

/// Shared data under fixed names: one for each set of the key table. There is no way to
/// delete a name, so none is ever made of what a client sent.
pub(crate) struct SharedGround {
    pub(crate) table: Table,
}

/// What all workers of this process agree on.
pub(crate) struct Process {
    /// Keys the hashes of local keys.
    pub(crate) seed: [u8; 16],
    /// What the host service knows this proxy by: 16 hex digits, drawn at random.
    pub(crate) id: String,
    /// The same as a number.
    number: u64,
    /// When this VM last said that it is there, in [`Process::ROUND`]s.
    said_in: u64,
    count: Count,
}

/// How many VMs were seen, since when; and how many were told of.
#[derive(Default)]
struct Count {
    seen: u32,
    since: Instant,
    told: u32,
}

impl Slots for SharedGround {
    fn load(&mut self, set: u32, into: &mut [u8; SET_BYTES]) -> u32 {
        let (value, version) = abi::shared(&self.table.name_of(set)).unwrap_or_default();
        read_set(&value, into);
        version
    }

    fn store(&mut self, set: u32, bytes: &[u8; SET_BYTES], version: u32) -> Result<(), Conflict> {
        abi::set_shared(&self.table.name_of(set), bytes, Some(version)).map_err(|_| Conflict)
    }
}

impl Ground for SharedGround {
    fn now(&mut self) -> Instant {
        Instant(abi::monotonic_nanos())
    }

    fn shared(&mut self, place: SharedPlace, read: &mut dyn FnMut(&[u8])) -> u32 {
        let Ok((value, version)) = abi::shared(&place.name()) else { return 0 };
        read(&value);
        version
    }

    fn share(
        &mut self,
        place: SharedPlace,
        bytes: &[u8],
        version: Option<u32>,
    ) -> Result<(), Conflict> {
        let name = place.name();
        match version {
            Some(_) => abi::set_shared(&name, bytes, version),
            None => abi::put_shared(&name, bytes),
        }
        .map_err(|_| Conflict)
    }
}

impl Process {
    /// What the first worker drew and all others read.
    pub(crate) fn join() -> Option<Self> {
        const NAME: &[u8] = b"tidegate.process";
        if abi::shared(NAME).err() == Some(Failure::NotFound) {
            let mut drawn = [0_u8; 24];
            if !abi::random(&mut drawn) {
                return None;
            }
            // If another worker was first, theirs holds.
            let _ = abi::set_shared(NAME, &drawn, None);
        }
        let (bytes, _) = abi::shared(NAME).ok()?;
        let (seed, id) = bytes.split_first_chunk::<16>()?;
        let number = u64::from_le_bytes(*id.first_chunk()?);
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { seed: *seed, id, number, said_in: 0, count: Count::default() })
    }

    /// Names a gate, as no other of this process was or will be. `None` if that cannot be had.
    pub(crate) fn name_gate(&self) -> Option<HolderId> {
        let mut number = 0;
        change(b"tidegate.gates", |bytes: [u8; 4]| {
            number = u32::from_le_bytes(bytes);
            number.wrapping_add(1).to_le_bytes()
        })?;
        // A byte of it tells workers apart; more gates than that are of further processes.
        let [worker, ..] = number.to_le_bytes();
        Some(HolderId::new(self.number.wrapping_add(u64::from(number >> 8)), worker))
    }

    /// How many VMs of this process are at work, if that is not as it was told last. Call it at each
    /// tick. A number counts once it has stood for a moment: VMs start one after the other.
    pub(crate) fn count_workers(&mut self, now: Instant) -> Option<u32> {
        let count = self.census(now)?;
        let Count { seen, since, told } = &mut self.count;
        if *seen != count {
            (*seen, *since) = (count, now);
        }
        if *told == count || now.since(*since) < Self::STANDS {
            return None;
        }
        *told = count;
        Some(count)
    }

    /// How many VMs said that they are there in the last round, or in this one if they are more by
    /// now. Each of them says so once in a round.
    fn census(&mut self, now: Instant) -> Option<u32> {
        let round = now.0 / Self::ROUND.0;
        if core::mem::replace(&mut self.said_in, round) != round {
            change(WORKERS, |bytes| Census::read(&bytes).in_round(round).with_one_more().bytes())?;
        }
        let (bytes, _) = abi::shared(WORKERS).ok()?;
        let Census { present, last, .. } = Census::read(&bytes).in_round(round);
        Some(present.max(last))
    }

    const ROUND: Span = Span::from_secs(2);
    const STANDS: Span = Span::from_millis(300);
}

/// Who is at work, as they say in rounds: 8 the round, 4 how many said so in it, 4 in the one before.
struct Census {
    round: u64,
    present: u32,
    last: u32,
}

/// Where that is shared.
const WORKERS: &[u8] = b"tidegate.workers";

impl Census {
    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
        let count = |at| word(at).map_or(0, |it| u32::from_le_bytes(*it));
        let round = bytes.first_chunk::<8>().map_or(0, |it| u64::from_le_bytes(*it));
        Self { round, present: count(8), last: count(12) }
    }

    /// The same as it is seen in this round.
    const fn in_round(self, round: u64) -> Self {
        let (present, last) = match round.wrapping_sub(self.round) {
            0 => (self.present, self.last),
            1 => (0, self.present),
            _ => (0, 0),
        };
        Self { round, present, last }
    }

    const fn with_one_more(self) -> Self {
        Self { present: self.present.saturating_add(1), ..self }
    }

    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let counts = [self.present, self.last].map(u32::to_le_bytes).concat();
        let all = self.round.to_le_bytes().into_iter().chain(counts);
        bytes.iter_mut().zip(all).for_each(|(place, byte)| *place = byte);
        bytes
    }
}

/// Changes a small value that all workers share, which is zeros at first. `None` if it could not
/// be stored.
fn change<const N: usize>(name: &[u8], mut by: impl FnMut([u8; N]) -> [u8; N]) -> Option<()> {
    const CONFLICTS_MAX: usize = 64;
    (0..CONFLICTS_MAX).find_map(|_| {
        let (bytes, version) = abi::shared(name).unwrap_or_default();
        let bytes = <[u8; N]>::try_from(&*bytes).unwrap_or([0; N]);
        abi::set_shared(name, &by(bytes), Some(version)).ok()
    })
}
