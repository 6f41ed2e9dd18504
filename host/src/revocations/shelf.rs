//! The newest images, and those that proxies may still be fetching.

use super::images::{Made, Set};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_core::revoke::message::Form;

/// How long images can be fetched when there are newer ones: a proxy that has begun will be done.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// How long images in pages are made when nobody has asked for any.
const WANTED_FOR: Duration = Duration::from_secs(600);

/// What there is to fetch.
#[derive(Default)]
pub(super) struct Shelf {
    fuse: Option<Arc<Set>>,
    pages: Option<Arc<Set>>,
    /// By checksum; with when it was replaced. Those of two cuts or three, as one a minute is
    /// more than there are.
    images: HashMap<u64, (Arc<Made>, Option<Instant>)>,
    /// When pages were last asked for.
    pages_wanted: Option<Instant>,
}

impl Shelf {
    pub(super) fn set(&self, form: Form) -> Option<&Arc<Set>> {
        match form {
            Form::Fuse => self.fuse.as_ref(),
            Form::Pages => self.pages.as_ref(),
        }
    }

    /// Somebody asks for this form.
    pub(super) fn want(&mut self, form: Form, now: Instant) {
        if form == Form::Pages {
            self.pages_wanted = Some(now);
        }
    }

    /// In which forms images are to be made.
    pub(super) fn wanted(&self, now: Instant) -> impl Iterator<Item = Form> + use<> {
        let pages = self.pages_wanted.is_some_and(|asked| now - asked < WANTED_FOR);
        [Form::Fuse].into_iter().chain(pages.then_some(Form::Pages))
    }

    /// Whether any of those is missing.
    pub(super) fn lacks(&self, now: Instant) -> bool {
        self.wanted(now).any(|form| self.set(form).is_none())
    }

    /// Puts these where the last ones were.
    pub(super) fn put(&mut self, sets: Vec<(Form, Arc<Set>)>, now: Instant) {
        let (mut fuse, mut pages) = (None, None);
        for (form, set) in sets {
            match form {
                Form::Fuse => fuse = Some(set),
                Form::Pages => pages = Some(set),
            }
        }
        (self.fuse, self.pages) = (fuse, pages);
        self.images
            .retain(|_, (_, replaced)| now.duration_since(*replaced.get_or_insert(now)) < KEPT_FOR);
        for made in [&self.fuse, &self.pages].into_iter().flatten().flat_map(|set| &set.images) {
            self.images.insert(made.image.checksum, (made.clone(), None));
        }
    }

    /// The log is another: what there is belongs to none.
    pub(super) fn clear(&mut self) {
        (self.fuse, self.pages) = (None, None);
    }

    /// An image, as long as it is here.
    pub(super) fn image(&self, checksum: u64) -> Option<&Arc<Made>> {
        self.images.get(&checksum).map(|(made, _)| made)
    }
}
