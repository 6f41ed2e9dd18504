//! Which files hold cases.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The most folders within each other: links may go round.
const DEPTH_MAX: u32 = 32;

/// The most files of cases in one run.
const FILES_MAX: usize = 65_536;

/// How the names of files with cases end.
const ENDINGS: [&str; 2] = [".test.yaml", ".test.yml"];

/// The files named, and those with cases in the folders named and below; each once, in order.
///
/// # Errors
///
/// A path that is not there, or a folder with no cases in it: messages to print.
pub(super) fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = BTreeSet::new();
    for path in paths {
        let kind = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if !kind.is_dir() {
            files.insert(path.clone());
            continue;
        }
        let mut below = BTreeSet::new();
        walk(path, 0, &mut below)?;
        if below.is_empty() {
            return Err(format!("{}: no cases here, found no *.test.yaml", path.display()));
        }
        files.append(&mut below);
    }
    Ok(files.into_iter().collect())
}

fn walk(folder: &Path, depth: u32, files: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", folder.display());
    if depth > DEPTH_MAX || files.len() > FILES_MAX {
        return Err(format!("{}: too many folders or files; name fewer", folder.display()));
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            walk(&path, depth + 1, files)?;
        } else if ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            files.insert(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched_and_files_taken_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/b/.hidden")).unwrap();
        for name in ["a/z.test.yaml", "a/b/y.test.yml", "a/x.yaml", "a/b/.hidden/w.test.yaml"] {
            fs::write(at(name), "").unwrap();
        }
        let found = find(&[at("a"), at("a/b"), at("a/x.yaml")]).unwrap();
        assert_eq!(found, [at("a/b/y.test.yml"), at("a/x.yaml"), at("a/z.test.yaml")]);
        fs::create_dir(at("empty")).unwrap();
        assert!(find(&[at("empty")]).unwrap_err().ends_with("no cases here, found no *.test.yaml"));
        assert!(find(&[at("none")]).unwrap_err().contains("No such file"));
    }
}
