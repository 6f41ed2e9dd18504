//! What was made of files, and made anew when they change.

use super::Files;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The last good of what was made of some files: wrong ones change nothing.
pub(crate) struct Kept<T> {
    now: RwLock<Arc<T>>,
    files: Mutex<Files>,
}

impl<T> Kept<T> {
    /// Makes the first.
    ///
    /// # Errors
    ///
    /// What `read` says.
    pub(crate) fn read(read: impl FnOnce(&mut Files) -> Result<T, String>) -> Result<Self, String> {
        let mut files = Files::default();
        let now = RwLock::new(Arc::new(read(&mut files)?));
        Ok(Self { now, files: Mutex::new(files) })
    }

    /// The last good one.
    pub(crate) fn now(&self) -> Arc<T> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes it anew if the files hold something else: the new one, or why the last one stays. `None`
    /// if they do not.
    pub(crate) fn look(
        &self,
        read: impl FnOnce(&mut Files) -> Result<T, String>,
    ) -> Option<Result<Arc<T>, String>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if !files.has_changed() {
            return None;
        }
        let mut new = files.anew();
        Some(match read(&mut new) {
            Ok(made) => {
                let made = Arc::new(made);
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = made.clone();
                *files = new;
                Ok(made)
            }
            Err(problem) => {
                files.add(new);
                Err(problem)
            }
        })
    }
}
