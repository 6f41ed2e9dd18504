//! The files that something was made of, and whether they changed since.
//!
//! Looked at about once a second: by what a file is (its inode, length and times), and only
//! if that changed by what it holds. So a symbolic link that is swapped, as Kubernetes does
//! with its mounts, is seen, and a file that was only touched makes no reload. Nothing is
//! asked of the kernel's watches, which some of its file systems do not serve.

mod kept;

pub(crate) use kept::Kept;

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The longest file that is read: far above any module.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Files as they were when they were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    seen: BTreeMap<PathBuf, Seen>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    stat: Option<Stat>,
    /// `None`: it could not be read.
    content: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// Also when only who may read it has changed.
    changed: (i64, i64),
}

impl Files {
    /// None yet, for [`Files::add`] later.
    pub(crate) fn anew(&self) -> Self {
        Self { seen: BTreeMap::new(), hasher: self.hasher.clone() }
    }

    /// Reads a file, and notes what it was. One that cannot be read is noted too: when it
    /// can be, that is a change.
    ///
    /// # Errors
    ///
    /// Of reading, with a word of which file.
    pub(crate) fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let stat = stat(path);
        let read = whole(path);
        let content = read.as_ref().ok().map(|bytes| self.hasher.hash_one(bytes));
        self.seen.insert(path.to_owned(), Seen { stat, content });
        read.map_err(|error| format!("{}: cannot be read: {error}", path.display()))
    }

    /// Whether what any of the files holds is not what it was. Once said, it is what it was.
    pub(crate) fn has_changed(&mut self) -> bool {
        let mut has_changed = false;
        for (path, seen) in &mut self.seen {
            let stat = stat(path);
            if stat == seen.stat {
                continue;
            }
            let content = whole(path).ok().map(|bytes| self.hasher.hash_one(bytes));
            has_changed |= content != seen.content;
            *seen = Seen { stat, content };
        }
        has_changed
    }

    /// Notes files that were read into [`Files::anew`], as they were then: what has been mended since,
    /// of an attempt that failed, is a change. Those that are known stay as they were seen first: one
    /// that was being written has changed again since.
    pub(crate) fn add(&mut self, other: Self) {
        for (path, seen) in other.seen {
            self.seen.entry(path).or_insert(seen);
        }
    }
}

fn stat(path: &Path) -> Option<Stat> {
    let of = |meta: Metadata| Stat {
        device: meta.dev(),
        inode: meta.ino(),
        bytes: meta.len(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    };
    std::fs::metadata(path).ok().map(of)
}

fn whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(io::Error::other(format!("it is longer than {} MiB", FILE_BYTES_MAX >> 20))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_is_watched_and_not_that_it_was_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut files = Files::default();
        std::fs::write(&path, "one").unwrap();
        assert_eq!(files.read(&path).unwrap(), b"one");
        assert!(!files.has_changed());

        std::fs::write(dir.path().join("b"), "one").unwrap();
        std::fs::rename(dir.path().join("b"), &path).unwrap();
        assert!(!files.has_changed(), "another file that holds the same");

        std::fs::write(&path, "other").unwrap();
        assert!(files.has_changed());
        assert!(!files.has_changed(), "told once");
    }

    #[test]
    fn what_was_mended_while_it_was_tried_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut files = Files::default();
        let mut tried = files.anew();
        std::fs::write(&path, "bad").unwrap();
        tried.read(&path).unwrap();
        std::fs::write(&path, "good").unwrap();
        files.add(tried);
        assert!(files.has_changed());
        assert!(!files.has_changed());
    }

    #[test]
    fn a_swapped_link_and_a_file_that_comes_are_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut files = Files::default();
        assert!(files.read(&at("link")).unwrap_err().contains("link: cannot be read: "));
        std::fs::write(at("one"), "1").unwrap();
        std::fs::write(at("two"), "2").unwrap();
        std::os::unix::fs::symlink(at("one"), at("link")).unwrap();
        assert!(files.has_changed());
        std::os::unix::fs::symlink(at("two"), at("next")).unwrap();
        std::fs::rename(at("next"), at("link")).unwrap();
        assert!(files.has_changed());
        std::fs::remove_file(at("link")).unwrap();
        assert!(files.has_changed());
    }
}
