//! Images: what is revoked at a cut through the log, as filters that proxies fetch.
//!
//! A token's record is in the generation of its `exp`, all else in the one of number 0, that
//! belongs to none, and so is what ends beyond the horizon: a later cut, or one of a host whose
//! clock differs, has it elsewhere, so proxies look ids up in all images of one cut, or in none
//! (see [`known`](tidegate_core::revoke::known)). Filters are made of the ids' short halves in the
//! order of ids, so two hosts make the same of the same records.

use super::ledger::Snapshot;
use super::{Fault, Generation, Images};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tidegate_core::revoke::message::{Form, IMAGE_BYTES_MAX, Image, generation};
use tidegate_core::revoke::pages::{PAGE_BYTES, Place, pages};
use tidegate_core::revoke::{Position, Record, fuse};
use tidegate_core::wire::revoke::checksum;
use xorf::{BinaryFuse8, DmaSerializable as _};

/// How many generations there are at once, from now on; what ends later belongs to none yet.
const GENERATIONS_MAX: u32 = 120;

/// How time is divided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Of the cut, in seconds of Unix time, rounded so that hosts agree on it.
    pub(super) as_of_secs: u64,
    /// How long a generation is.
    pub(super) span_secs: u32,
    /// How long proxies may take a token for alive after its end.
    pub(super) leeway_secs: u64,
}

/// What images are made of: the short ids of each generation.
pub(super) struct Members {
    cut: Position,
    span_secs: u32,
    by_generation: BTreeMap<u32, Vec<u64>>,
}

/// All images of a cut, in one form.
pub(super) struct Set {
    pub(super) cut: Position,
    pub(super) form: Form,
    /// The number of the cut before; 0 if there was none in this log.
    pub(super) last_cut: u64,
    pub(super) span_secs: u32,
    pub(super) images: Vec<Arc<Made>>,
    made_at: Instant,
}

/// An image.
pub(super) struct Made {
    pub(super) image: Image,
    pub(super) bytes: Bytes,
    pub(super) ids: u64,
    /// What it was made of: SHA-256.
    made_of: [u8; 32],
}

impl Times {
    /// Where a record belongs; `None` if it revokes nothing, or nothing that is alive.
    fn generation(&self, record: &Record) -> Option<u32> {
        let revokes = !record.lifts && record.before_secs > 0;
        if !revokes || self.is_over(record.until_secs) {
            return None;
        }
        if !record.by_exp || !record.kind.shows_end() {
            return Some(0);
        }
        let horizon = generation(self.as_of_secs, self.span_secs).saturating_add(GENERATIONS_MAX);
        let own = generation(record.until_secs, self.span_secs);
        Some(if own >= horizon { 0 } else { own })
    }

    /// Whether a generation is past that ends with or after this second: so all of a generation
    /// ends at the same time.
    pub(super) fn is_over(&self, until_secs: u64) -> bool {
        let span_secs = u64::from(self.span_secs);
        let end_secs = (until_secs / span_secs + 1) * span_secs;
        end_secs + self.leeway_secs <= self.as_of_secs
    }
}

impl Members {
    /// Reads all records: a second for some millions. Fails as soon as `goes_on` does.
    pub(super) fn of(
        snapshot: &Snapshot,
        times: &Times,
        last: Option<&Set>,
        goes_on: impl Fn() -> Result<(), Fault>,
    ) -> Result<Self, Fault> {
        let mut by_generation: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        // Room for what there was, so that growing copies nothing.
        for made in last.into_iter().flat_map(|set| &set.images) {
            let room = made.ids + made.ids / 16;
            let members = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
            by_generation.insert(made.image.generation, members);
        }
        snapshot.each(|record| {
            if let Some(generation) = times.generation(record) {
                let members = by_generation.entry(generation).or_default();
                let short = record.id.short();
                // Ids that share their short half stand side by side.
                if members.last() != Some(&short) {
                    members.push(short);
                }
            }
            goes_on()
        })?;
        by_generation.retain(|_, members| !members.is_empty());
        Ok(Self { cut: snapshot.position(), span_secs: times.span_secs, by_generation })
    }

    /// Makes the images; those of `last` that are made of the same stay.
    pub(super) fn make(&self, form: Form, last: Option<&Set>) -> Result<Set, String> {
        let make = |(generation, members): (&u32, &Vec<u64>)| {
            let made_of = digest(members);
            let same = last.and_then(|set| set.of(*generation));
            match same.filter(|made| made.made_of == made_of) {
                Some(same) => Ok(same.clone()),
                None => Made::new(form, *generation, members, made_of).map(Arc::new),
            }
        };
        let images = self.by_generation.iter().map(make).collect::<Result<_, _>>()?;
        let last_cut = last.filter(|last| last.cut.log == self.cut.log);
        let last_cut = last_cut.map_or(0, |last| last.cut.number);
        Ok(Set {
            cut: self.cut,
            form,
            last_cut,
            span_secs: self.span_secs,
            images,
            made_at: Instant::now(),
        })
    }
}

impl Set {
    pub(super) fn stats(&self) -> Images {
        let generation = |made: &Arc<Made>| Generation {
            number: made.image.generation,
            ids: made.ids,
            bytes: made.image.bytes,
        };
        Images {
            cut: self.cut.number,
            age: self.made_at.elapsed(),
            span_secs: self.span_secs,
            generations: self.images.iter().map(generation).collect(),
        }
    }

    fn of(&self, generation: u32) -> Option<&Arc<Made>> {
        let at = self.images.binary_search_by_key(&generation, |made| made.image.generation);
        at.ok().map(|at| &self.images[at])
    }
}

impl Made {
    fn new(
        form: Form,
        generation: u32,
        members: &[u64],
        made_of: [u8; 32],
    ) -> Result<Self, String> {
        let bytes = match form {
            Form::Fuse => fuse_image(members)?,
            Form::Pages => pages_image(members),
        };
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if length > IMAGE_BYTES_MAX {
            return Err(format!("{} ids of one generation are too many", members.len()));
        }
        let image = Image { generation, checksum: checksum(&bytes), bytes: length };
        Ok(Self { image, bytes: bytes.into(), ids: members.len() as u64, made_of })
    }
}

fn fuse_image(members: &[u64]) -> Result<Vec<u8>, String> {
    let filter = BinaryFuse8::try_from(members)?;
    let prints = filter.dma_fingerprints();
    let mut bytes = Vec::with_capacity(fuse::HEAD_BYTES + prints.len());
    bytes.resize(fuse::HEAD_BYTES, 0);
    filter.dma_copy_descriptor_to(&mut bytes);
    bytes.extend_from_slice(prints);
    Ok(bytes)
}

fn pages_image(members: &[u64]) -> Vec<u8> {
    let count = pages(members.len() as u64);
    let mut bytes = vec![0; count as usize * PAGE_BYTES];
    let (pages, _) = bytes.as_chunks_mut();
    for short in members {
        let place = Place::of(*short, count);
        place.put(&mut pages[place.page as usize]);
    }
    bytes
}

fn digest(members: &[u64]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut buffer = [0; 8 * 512];
    for some in members.chunks(512) {
        let (places, _) = buffer.as_chunks_mut();
        places.iter_mut().zip(some).for_each(|(place, short)| *place = short.to_le_bytes());
        hash.update(&buffer[..some.len() * 8]);
    }
    hash.finalize().into()
}
