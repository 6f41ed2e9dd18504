//! Hosts as a proxy sees them, in a few lines: a log, what holds at each entry of it, and images,
//! which each host makes at entries, and by a clock, of its own.

use std::collections::BTreeMap;
use tidegate_core::revoke::fuse::HEAD_BYTES;
use tidegate_core::revoke::id::IdKey;
use tidegate_core::revoke::message::{
    CHUNK_BYTES, Checked, Chunk, ChunkAsk, Delta, Form, Image, Manifest, News, NewsAsk, generation,
};
use tidegate_core::revoke::pages::{self, PAGE_BYTES, Place};
use tidegate_core::revoke::{Id, Position};
use tidegate_core::wire::revoke::checksum;
use xorf::{BinaryFuse8, DmaSerializable as _};

pub(crate) const SPAN_SECS: u32 = 300;

/// How many hosts there are.
pub(crate) const HOSTS: usize = 2;

/// How many generations there are at once: what ends later belongs to none yet.
pub(crate) const GENERATIONS_MAX: u32 = 2;

/// As of when images are made unless a test says otherwise: nothing ends later than the horizon.
const LATE_SECS: u64 = 1 << 40;

/// What can be revoked: its id, and the `exp` of the token that has it.
pub(crate) type Thing = (Id, Option<u64>);

pub(crate) struct Host {
    /// Positions after each entry; the first is before all.
    positions: Vec<Position>,
    entries: Vec<(Thing, u64)>,
    /// Entries of each id.
    by_id: BTreeMap<Id, Vec<u64>>,
    /// Of each host, in either form.
    manifests: [[Manifest; 2]; HOSTS],
    images: BTreeMap<u64, Vec<u8>>,
    pub(crate) id_keys: Vec<IdKey>,
    /// Whether it tells of images only to who has none.
    pub(crate) is_sparing: bool,
}

impl Host {
    pub(crate) fn new(log: u64) -> Self {
        let manifest = |form| Manifest { span_secs: SPAN_SECS, form, ..Manifest::default() };
        let manifests = std::array::from_fn(|_| [Form::Fuse, Form::Pages].map(manifest));
        let (positions, by_id) = (vec![Position::start(log)], BTreeMap::new());
        Self {
            positions,
            entries: Vec::new(),
            by_id,
            manifests,
            images: BTreeMap::new(),
            id_keys: Vec::new(),
            is_sparing: false,
        }
    }

    pub(crate) fn position(&self) -> Position {
        *self.positions.last().unwrap()
    }

    /// What is set holds from the next entry on.
    pub(crate) fn set(&mut self, thing: Thing, before_secs: u64) {
        let entry = [&thing.0.0[..], &before_secs.to_le_bytes()].concat();
        self.positions.push(self.position().then(&entry));
        self.entries.push((thing, before_secs));
        let number = self.position().number;
        self.by_id.entry(thing.0).or_default().push(number);
    }

    /// What holds of an id at an entry.
    pub(crate) fn before_secs(&self, id: &Id, number: u64) -> u64 {
        let entries = self.by_id.get(id).into_iter().flatten().rev();
        let last = entries.copied().find(|entry| *entry <= number);
        last.map_or(0, |entry| self.entries[entry as usize - 1].1)
    }

    /// Loses its last entries, as a fail-over does; returns them, for who knows them puts them back.
    pub(crate) fn lose(&mut self, entries: usize) -> Vec<(Thing, u64)> {
        let left = self.entries.len().saturating_sub(entries);
        let lost = self.entries.split_off(left);
        self.positions.truncate(left + 1);
        self.by_id.values_mut().for_each(|entries| entries.retain(|it| *it <= left as u64));
        for host in 0..HOSTS {
            if self.manifests[host][0].cut > left as u64 {
                self.cut_by(host, LATE_SECS);
            }
        }
        lost
    }

    /// One host makes images of all that holds now.
    pub(crate) fn cut(&mut self) {
        self.cut_by(0, LATE_SECS);
    }

    /// A host makes images of all that holds now, by its clock: what ends beyond its horizon is in
    /// generation 0, and in its own when the horizon has come that far.
    pub(crate) fn cut_by(&mut self, host: usize, as_of_secs: u64) {
        let horizon = generation(as_of_secs, SPAN_SECS).saturating_add(GENERATIONS_MAX);
        let number = self.position().number;
        let mut generations: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for ((id, exp), _) in &self.entries {
            if self.before_secs(id, number) > 0 {
                let own = exp.map_or(0, |secs| generation(secs, SPAN_SECS));
                let of = if own >= horizon { 0 } else { own };
                generations.entry(of).or_default().push(id.short());
            }
        }
        for manifest in &mut self.manifests[host] {
            manifest.cut = number;
            manifest.images.clear();
            for (generation, shorts) in &mut generations {
                shorts.sort_unstable();
                shorts.dedup();
                let bytes = match manifest.form {
                    Form::Fuse => fuse(shorts),
                    Form::Pages => pages(shorts),
                };
                let (generation, checksum) = (*generation, checksum(&bytes));
                let image = Image { generation, checksum, bytes: bytes.len() as u32 };
                self.images.insert(image.checksum, bytes);
                manifest.images.push(image);
            }
        }
    }

    /// At most so many deltas at once.
    pub(crate) fn news(&self, ask: &NewsAsk, most: usize) -> News {
        self.news_of(0, ask, most)
    }

    /// What one host says; of images, also that it has older ones.
    pub(crate) fn news_of(&self, host: usize, ask: &NewsAsk, most: usize) -> News {
        let is_ours = self.positions.get(ask.known.number as usize) == Some(&ask.known);
        let manifest = &self.manifests[host][usize::from(ask.form == Form::Pages)];
        let from = if is_ours { ask.known.number } else { manifest.cut } as usize;
        let upto = self.entries.len().min(from + most.max(1));
        let delta = |(((id, _), _), number): (&(Thing, u64), u64)| {
            let before_secs = self.before_secs(id, number);
            Delta { number, id: *id, before_secs, age_ms: 5 }
        };
        let deltas = self.entries[from..upto].iter().zip(from as u64 + 1..).map(delta).collect();
        let is_told = ask.cut != manifest.cut && (!self.is_sparing || ask.cut == 0);
        let manifest = (!is_ours || is_told).then(|| manifest.clone());
        let (more, anew) = (upto < self.entries.len(), !is_ours);
        let position = self.positions[upto];
        let id_keys = ask.wants_keys.then(|| self.id_keys.clone());
        News { position, held_ms: 0, age_ms: 0, more, manifest, anew, id_keys, deltas }
    }

    pub(crate) fn chunk(&self, ask: &ChunkAsk) -> Option<Chunk> {
        let piece = self.images.get(&ask.image)?.get(ask.offset as usize..)?;
        let bytes = piece[..piece.len().min(CHUNK_BYTES)].to_vec();
        Some(Chunk { image: ask.image, offset: ask.offset, bytes })
    }

    pub(crate) fn checked(&self, ids: &[Id]) -> Checked {
        let number = self.position().number;
        let before_secs = ids.iter().map(|id| self.before_secs(id, number)).collect();
        Checked { position: self.position(), age_ms: 0, before_secs }
    }
}

fn fuse(shorts: &[u64]) -> Vec<u8> {
    let filter = BinaryFuse8::try_from(shorts).unwrap();
    let mut bytes = vec![0; HEAD_BYTES];
    filter.dma_copy_descriptor_to(&mut bytes);
    bytes.extend(filter.dma_fingerprints());
    bytes
}

fn pages(shorts: &[u64]) -> Vec<u8> {
    let count = pages::pages(shorts.len() as u64);
    let mut pages = vec![[0; PAGE_BYTES]; count as usize];
    for short in shorts {
        let place = Place::of(*short, count);
        place.put(&mut pages[place.page as usize]);
    }
    pages.concat()
}
