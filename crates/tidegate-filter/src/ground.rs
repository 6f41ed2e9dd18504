//! What the gate stands on in a proxy: shared data of the process, and its monotone clock.

use crate::abi::{self, Failure};
use tidegate_core::gate::{Ground, SharedPlace};
use tidegate_core::lease::HolderId;
use tidegate_core::table::{Conflict, SET_BYTES, Slots};
use tidegate_core::time::{Instant, Span};

/// Shared data under fixed names: one for each set of the key table. There is no way to
/// delete a name, so none is ever made of what a client sent.
pub(crate) struct SharedGround {
    /// How many sets the table has; tables of different size do not share memory.
    pub(crate) sets: u32,
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
}

/// Which layout of sets the names stand for: a filter of another layout leaves ours alone.
const LAYOUT: u8 = 1;

impl Slots for SharedGround {
    fn load(&mut self, set: u32, into: &mut [u8; SET_BYTES]) -> u32 {
        match abi::shared(&self.name(set)) {
            Ok((value, version)) => {
                match <&[u8; SET_BYTES]>::try_from(&*value) {
                    Ok(bytes) => *into = *bytes,
                    Err(_) => into.fill(0),
                }
                version
            }
            Err(_) => {
                into.fill(0);
                0
            }
        }
    }

    fn store(&mut self, set: u32, bytes: &[u8; SET_BYTES], version: u32) -> Result<(), Conflict> {
        abi::set_shared(&self.name(set), bytes, Some(version)).map_err(|_| Conflict)
    }
}

impl Ground for SharedGround {
    fn now(&mut self) -> Instant {
        Instant(abi::monotonic_nanos())
    }

    fn shared(&mut self, place: SharedPlace, read: &mut dyn FnMut(&[u8])) -> u32 {
        let Ok((value, version)) = abi::shared(&name_of(place)) else { return 0 };
        read(&value);
        version
    }

    fn share(
        &mut self,
        place: SharedPlace,
        bytes: &[u8],
        version: Option<u32>,
    ) -> Result<(), Conflict> {
        let name = name_of(place);
        match version {
            Some(_) => abi::set_shared(&name, bytes, version),
            None => abi::put_shared(&name, bytes),
        }
        .map_err(|_| Conflict)
    }
}

/// What a place is called, in this layout.
const fn name_of(place: SharedPlace) -> [u8; 9] {
    let (kind, number, page) = match place {
        SharedPlace::Turn => (b't', 0, 0),
        SharedPlace::News(number) => (b'n', number, 0),
        SharedPlace::Chunk(number) => (b'c', number, 0),
        SharedPlace::Sheet => (b's', 0, 0),
        SharedPlace::Page(page) => (b'p', page.slot, page.page),
    };
    let [a, b, c, d] = page.to_le_bytes();
    [b't', b'r', LAYOUT, kind, number, a, b, c, d]
}

impl SharedGround {
    fn name(&self, set: u32) -> [u8; 11] {
        let [a, b, c, d] = self.sets.to_le_bytes();
        let [e, f, g, h] = set.to_le_bytes();
        [b't', b'g', LAYOUT, a, b, c, d, e, f, g, h]
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
        Some(Self { seed: *seed, id, number, said_in: 0 })
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

    /// How many VMs of this process are at work, as of the last round in which each of them said
    /// so; `None` if nothing is new. Call it at each tick.
    pub(crate) fn count_workers(&mut self, now: Instant) -> Option<u32> {
        let round = now.0 / Self::ROUND.0;
        if core::mem::replace(&mut self.said_in, round) == round {
            return None;
        }
        let mut workers = 1;
        change(b"tidegate.workers", |bytes: [u8; 16]| {
            let (then, counts) = bytes.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
            let then = u64::from_le_bytes(*then);
            let count = |at: usize| {
                counts
                    .get(at..)
                    .and_then(|rest| rest.first_chunk())
                    .map_or(0, |it| u32::from_le_bytes(*it))
            };
            let (present, last) = match round.wrapping_sub(then) {
                0 => (count(0).saturating_add(1), count(4)),
                1 => (1, count(0)),
                _ => (1, 0),
            };
            workers = present.max(last);
            let mut bytes = [0; 16];
            let all = round.to_le_bytes().into_iter().chain(present.to_le_bytes());
            for (place, byte) in bytes.iter_mut().zip(all.chain(last.to_le_bytes())) {
                *place = byte;
            }
            bytes
        })?;
        Some(workers)
    }

    const ROUND: Span = Span::from_secs(2);
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
