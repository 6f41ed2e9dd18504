//! Compiled modules, kept in a folder from one run to the next.
//!
//! What is loaded from here runs as it is, so that a file counts only if it is this user's,
//! nobody else may write to it, and it still is what it was: its name has the digest of its
//! content, beside the key of what it was compiled from and by what.

use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;
use wasmtime::{Engine, Module};

/// Files that are kept, of a few MiB each: more modules than anyone runs at a time, and some
/// of before an update.
const FILES_MAX: usize = 32;

const EXTENSION: &str = "cwasm";

/// The folder.
pub struct Cache {
    folder: PathBuf,
    user: u32,
}

/// Names what is compiled: the code, by which compiler, with what settings, for what machine.
#[must_use]
pub fn key(engine: &Engine, code: &[u8]) -> String {
    let mut digest = Digesting(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut digest);
    digest.0.update(code);
    hex(digest.0)
}

impl Cache {
    /// The folder, made if need be; `None` if it cannot be, or is not safely this user's.
    #[must_use]
    pub fn open(folder: PathBuf) -> Option<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
        // The owner of a process's own entry is its effective user.
        let user = fs::metadata("/proc/self").ok()?.uid();
        let cache = Self { folder, user };
        let is_ours = cache.is_ours(&fs::metadata(&cache.folder).ok()?);
        is_ours.then_some(cache)
    }

    /// What was compiled of this, if it is there and can be trusted.
    pub(super) fn get(&self, engine: &Engine, key: &str) -> Option<Module> {
        let file = self.file(key)?;
        // SAFETY: `serialize` made the content for an engine with the same key; the rest is
        // what [`Cache::file`] promises.
        #[allow(unsafe_code)]
        unsafe {
            Module::deserialize_open_file(engine, file).ok()
        }
    }

    /// The file of a key, if it is there and can be trusted: it still is what was put there, and
    /// nobody but this user can write to it; who can, can change this program as well. It is the
    /// file that was looked at, not its name, that is opened.
    fn file(&self, key: &str) -> Option<File> {
        let mut files = self.files().into_iter();
        let path = files.find(|path| parts(path).is_some_and(|(known, _)| known == key))?;
        let mut file = File::open(&path).ok()?;
        let facts = file.metadata().ok()?;
        let (_, wanted) = parts(&path)?;
        if !facts.is_file() || !self.is_ours(&facts) || digest(&mut file)? != wanted {
            return None;
        }
        Some(file)
    }

    /// The content of a key's file, as [`Cache::put`] was given it, if it is there and can be
    /// trusted.
    #[must_use]
    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        let mut file = self.file(key)?;
        let mut bytes = Vec::new();
        file.rewind().ok()?;
        file.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Keeps what was compiled. If it cannot be, it is compiled again the next time.
    pub fn put(&self, key: &str, compiled: &[u8]) {
        let digest = hex(Sha256::new_with_prefix(compiled));
        let outdated = self
            .files()
            .into_iter()
            .filter(|path| parts(path).is_some_and(|(known, _)| known == key));
        for path in outdated {
            let _ = fs::remove_file(path);
        }
        let _ = self.write(&format!("{key}-{digest}.{EXTENSION}"), compiled);
        self.prune();
    }

    /// Beside its place first, so that nobody ever sees half of it there.
    fn write(&self, name: &str, compiled: &[u8]) -> std::io::Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let beside = self.folder.join(format!("{name}.{}-{count}", std::process::id()));
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
        let written =
            file.write_all(compiled).and_then(|()| fs::rename(&beside, self.folder.join(name)));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }

    /// Removes the oldest files beyond the bound.
    fn prune(&self) {
        let age = |path: &PathBuf| {
            let facts = fs::metadata(path).ok();
            facts.and_then(|facts| facts.modified().ok()).unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let mut files = self.files();
        files.sort_by_cached_key(|path| std::cmp::Reverse(age(path)));
        for path in files.into_iter().skip(FILES_MAX) {
            let _ = fs::remove_file(path);
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| parts(path).is_some()).collect()
    }

    fn is_ours(&self, facts: &fs::Metadata) -> bool {
        facts.uid() == self.user && facts.mode() & 0o022 == 0
    }
}

/// The key and the digest that a file's name says.
fn parts(path: &Path) -> Option<(&str, &str)> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(EXTENSION)?.strip_suffix('.')?.split_once('-')
}

fn digest(file: &mut File) -> Option<String> {
    let mut digest = Sha256::new();
    let mut part = vec![0; 64 << 10];
    loop {
        match file.read(&mut part).ok()? {
            0 => return Some(hex(digest)),
            bytes => digest.update(part.get(..bytes)?),
        }
    }
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lets wasmtime's settings be hashed as the code is: the standard library's own hashes may
/// change from one release to the next.
struct Digesting(Sha256);

impl Hasher for Digesting {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
