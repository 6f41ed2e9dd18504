//! The images that a worker looks ids up in: its own copies of filters, or pages that all workers
//! of its process share.
//!
//! A copy for each worker is quickest; where all copies together would take more than
//! the policy allows ([`COPIES_BYTES_DEFAULT`]), the process keeps one in shared data, and a look-up fetches one page of it.
//! Places for images there ([`Slot`]) are used again and again; each page begins with the name of its
//! image, so a worker that looks where another image has come to lie sees that, and asks the host.

use super::Id;
use super::fuse::Head;
use super::message::{Chunk, Form, Image, Manifest};
use super::pages::{self, PAGE_BYTES};
use crate::field;
use alloc::vec::Vec;
use core::hash::Hasher as _;
use xxhash_rust::xxh64::Xxh64;

/// The most bytes that the copies of all workers of a process may take together, unless the policy
/// says otherwise.
pub const COPIES_BYTES_DEFAULT: u64 = 64 << 20;

/// A place for an image in what workers share.
pub type Slot = u8;

/// A page in what workers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SharedPage {
    /// Of the image in this place.
    pub slot: Slot,
    /// Its number there.
    pub page: u32,
}

/// Bytes of a shared page: 8 its image's checksum, then the page.
pub const SHARED_PAGE_BYTES: usize = 8 + PAGE_BYTES;

/// Reads a shared page, if it is there.
pub type ReadPage<'r> = dyn FnMut(SharedPage, &mut dyn FnMut(&[u8])) + 'r;

/// Images, by generation: those in use, and behind them those that have come to replace them.
#[derive(Default)]
pub struct Images(Vec<Loaded>);

struct Loaded {
    /// Whether nothing is looked up in it yet.
    waits: bool,
    image: Image,
    body: Body,
}

enum Body {
    Own { head: Head, bytes: Vec<u8> },
    Shared(Slot),
}

/// An image of which not all has come.
pub struct Part {
    /// Which.
    pub image: Image,
    /// How many bytes have come.
    pub come: u32,
    /// Where it goes, if workers share it.
    pub slot: Option<Slot>,
    bytes: Vec<u8>,
    checksum: Xxh64,
}

impl Images {
    /// Whether the image of a generation holds an id, or one that looks like it. What cannot be
    /// seen may be held.
    pub fn seem_to_hold(&self, generation: u32, id: &Id, read: &mut ReadPage<'_>) -> bool {
        let in_use = self.find(false, generation).ok();
        let Some(loaded) = in_use.and_then(|at| self.0.get(at)) else {
            return false;
        };
        let slot = match &loaded.body {
            Body::Own { head, bytes } => return head.holds(bytes, id.short()),
            Body::Shared(slot) => *slot,
        };
        let place = pages::Place::of(id.short(), loaded.image.bytes / PAGE_BYTES as u32);
        let mut may_hold = true;
        read(SharedPage { slot, page: place.page }, &mut |shared| {
            let tag = u64::from_le_bytes(field::get(shared, 0));
            let is_its = tag == loaded.image.checksum && shared.len() == SHARED_PAGE_BYTES;
            may_hold = !is_its || shared.get(8..).is_none_or(|page| place.is_in(page));
        });
        may_hold
    }

    /// Whether an image is among them, in this form.
    pub fn has(&self, image: &Image, form: Form) -> bool {
        let is_it = |it: &Loaded| {
            it.image == *image && matches!(it.body, Body::Shared(_)) == (form == Form::Pages)
        };
        self.0.iter().any(is_it)
    }

    /// The places of those that workers share, and how many pages they have.
    pub fn shared(&self) -> Vec<(Slot, u32)> {
        let shared = |it: &Loaded| match it.body {
            Body::Shared(slot) => Some((slot, it.image.bytes / PAGE_BYTES as u32)),
            Body::Own { .. } => None,
        };
        self.0.iter().filter_map(shared).collect()
    }

    /// Keeps an image that is whole until all can be replaced; returns whether it is one.
    pub fn put_own(&mut self, part: Part) -> bool {
        let Part { image, bytes, checksum, .. } = part;
        let head = Head::read(&bytes).filter(|_| checksum.finish() == image.checksum);
        let Some(head) = head else { return false };
        self.put(Loaded { waits: true, image, body: Body::Own { head, bytes } });
        true
    }

    /// Looks an image up where workers share it.
    pub fn put_shared(&mut self, image: Image, slot: Slot) {
        self.put(Loaded { waits: false, image, body: Body::Shared(slot) });
    }

    /// Puts all that a manifest names into use, and keeps nothing else.
    pub fn replace(&mut self, manifest: &Manifest) {
        self.keep(manifest, false);
        while let Some(loaded) = self.0.pop_if(|loaded| loaded.waits) {
            self.put(Loaded { waits: false, ..loaded });
        }
    }

    /// Keeps only what a manifest names; and what is in use, if that is still wanted.
    pub fn keep(&mut self, manifest: &Manifest, and_in_use: bool) {
        self.0.retain(|loaded| {
            and_in_use && !loaded.waits || manifest.images.contains(&loaded.image)
        });
    }

    /// Bytes of own copies.
    pub fn own_bytes(&self) -> usize {
        let own = |it: &Loaded| match &it.body {
            Body::Own { bytes, .. } => bytes.len(),
            Body::Shared(_) => 0,
        };
        self.0.iter().map(own).sum()
    }

    fn put(&mut self, loaded: Loaded) {
        match self.find(loaded.waits, loaded.image.generation) {
            Ok(at) => {
                if let Some(place) = self.0.get_mut(at) {
                    *place = loaded;
                }
            }
            Err(at) => self.0.insert(at, loaded),
        }
    }

    fn find(&self, waits: bool, generation: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&(waits, generation), |it| (it.waits, it.image.generation))
    }
}

impl Part {
    /// None of an image that each worker has for itself, or that all share in this place. `None`
    /// if there is no memory for it.
    pub fn begin(image: Image, slot: Option<Slot>) -> Option<Self> {
        let mut bytes = Vec::new();
        if slot.is_none() {
            bytes.try_reserve_exact(image.bytes as usize).ok()?;
        } else if !(image.bytes as usize).is_multiple_of(PAGE_BYTES) {
            return None;
        }
        Some(Self { image, come: 0, slot, bytes, checksum: Xxh64::new(0) })
    }

    /// Adds the next piece; returns whether it was that.
    pub fn add(&mut self, chunk: &Chunk) -> bool {
        let come = self.come as usize + chunk.bytes.len();
        let is_next = chunk.image == self.image.checksum
            && chunk.offset == self.come
            && come <= self.image.bytes as usize;
        if !is_next {
            return false;
        }
        self.checksum.write(&chunk.bytes);
        if self.slot.is_none() {
            self.bytes.extend_from_slice(&chunk.bytes);
        }
        self.come = come as u32;
        true
    }

    /// Whether all has come.
    pub const fn is_whole(&self) -> bool {
        self.come == self.image.bytes
    }

    /// Whether all that came is what it should be.
    pub fn is_sound(&self) -> bool {
        self.checksum.finish() == self.image.checksum
    }

    /// Bytes of memory.
    pub const fn bytes(&self) -> usize {
        self.bytes.capacity()
    }
}
