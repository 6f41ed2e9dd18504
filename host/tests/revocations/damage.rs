//! Files that are not as they were written: refused with a word of what to do, or read as they
//! were; never taken for something else.

use crate::made_up::{lifted, token};
use crate::opened::{accept, entries, open, open_shared, settings};
use fastrand::Rng;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tidegate::revocations::{ENTRY_RECORDS_MAX, Revocations};
use tidegate_core::revoke::Record;

/// A ledger with something in each of its tables, closed.
async fn small() -> (tempfile::TempDir, Vec<Record>) {
    let folder = tempfile::tempdir().unwrap();
    let host = open_shared(folder.path());
    let batches: Vec<Vec<Record>> =
        (0..20).map(|batch| (0..50).map(|n| token(batch * 50 + n)).collect()).collect();
    host.apply(entries(host.position(), &batches)).await.unwrap();
    host.apply(entries(host.position(), &[vec![lifted(token(3))]])).await.unwrap();
    host.hold(vec![token(5_000)]).await.unwrap();
    let all = all(&host);
    drop(host);
    (folder, all)
}

/// A ledger most of which has settled, closed.
async fn settled() -> (tempfile::TempDir, Vec<Record>) {
    let folder = tempfile::tempdir().unwrap();
    let host = open(folder.path());
    for batch in (0..70_000).collect::<Vec<u64>>().chunks(ENTRY_RECORDS_MAX) {
        accept(&host, batch.iter().map(|number| token(*number)).collect()).await;
    }
    until(|| run(folder.path()).is_some() && settles(folder.path()));
    accept(&host, vec![lifted(token(1)), token(99_999)]).await;
    let all = all(&host);
    drop(host);
    (folder, all)
}

fn all(host: &std::sync::Arc<Revocations>) -> Vec<Record> {
    host.export().flat_map(Result::unwrap).collect()
}

fn run(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "run")).max()
}

/// Whether the run has its head, which comes last.
fn settles(folder: &Path) -> bool {
    fs::read(run(folder).unwrap()).unwrap().starts_with(b"tidegate run 1")
}

fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "it did not come to that");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// What is wrong with a ledger; `None` if it holds all of these and nothing else.
fn problem(folder: &Path, wanted: &[Record]) -> Option<String> {
    // redb says where it found what it did not expect, in a debug build, by a panic.
    let opened =
        panic::catch_unwind(AssertUnwindSafe(|| Revocations::open(&settings(folder, true))));
    match opened.expect("no panic comes through") {
        Ok(host) => {
            assert_eq!(all(&host), wanted, "something else");
            None
        }
        Err(problem) => Some(problem.to_string()),
    }
}

/// What redb says by a panic is caught, and need not be seen.
fn hush() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.location().is_some_and(|at| at.file().contains("tests/revocations")) {
            told(panic);
        }
    }));
}

fn is_refused(problem: &str) {
    assert!(
        problem.contains("not as it was written") || problem.contains("of version"),
        "{problem}"
    );
    assert!(problem.contains("\n  hint: "), "{problem}");
}

#[tokio::test]
async fn whatever_byte_of_the_tree_is_another_it_shows_or_does_not_matter() {
    hush();
    let (folder, wanted) = small().await;
    let file = folder.path().join("revocations.redb");
    let whole = fs::read(&file).unwrap();
    let mut refused = 0;
    for seed in 0..250_u64 {
        let mut rng = Rng::with_seed(seed);
        let mut bytes = whole.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] ^= 1 << rng.u8(..8);
        }
        fs::write(&file, &bytes).unwrap();
        if let Some(problem) = problem(folder.path(), &wanted) {
            is_refused(&problem);
            refused += 1;
        }
    }
    assert!(refused > 25, "{refused}");
}

#[tokio::test]
async fn a_tree_that_is_cut_short_is_refused() {
    hush();
    let (folder, wanted) = small().await;
    let file = folder.path().join("revocations.redb");
    let whole = fs::read(&file).unwrap();
    for seed in 0..60_u64 {
        let left = Rng::with_seed(seed).usize(1..whole.len());
        fs::write(&file, &whole[..left]).unwrap();
        let problem = problem(folder.path(), &wanted);
        is_refused(&problem.unwrap_or_else(|| panic!("seed {seed}: cut to {left} bytes")));
    }
}

#[tokio::test]
async fn whatever_byte_of_a_run_is_another_it_is_refused() {
    let (folder, wanted) = settled().await;
    assert_eq!(problem(folder.path(), &wanted), None, "as it is");
    let whole = fs::read(run(folder.path()).unwrap()).unwrap();
    for seed in 0..40_u64 {
        let mut rng = Rng::with_seed(seed);
        let copied = copy(folder.path());
        let mut bytes = whole.clone();
        match seed % 4 {
            0 => bytes.truncate(rng.usize(..bytes.len())),
            1 => bytes[rng.usize(..40)] ^= 1,
            // A block in another's place.
            2 => {
                let [one, other] = [1, 2 + rng.usize(..100)].map(|block| block * 4_096);
                let block: Vec<u8> = bytes[other..other + 4_096].to_vec();
                bytes[one..one + 4_096].copy_from_slice(&block);
            }
            _ => {
                let at = rng.usize(4_096..bytes.len());
                bytes[at] ^= 1 << rng.u8(..8);
            }
        }
        fs::write(run(copied.path()).unwrap(), &bytes).unwrap();
        let problem = problem(copied.path(), &wanted);
        is_refused(&problem.unwrap_or_else(|| panic!("seed {seed}")));
    }
}

#[tokio::test]
async fn files_that_do_not_belong_together_are_refused() {
    let (folder, wanted) = settled().await;
    let without_run = copy(folder.path());
    fs::remove_file(run(without_run.path()).unwrap()).unwrap();
    assert!(problem(without_run.path(), &wanted).is_some());
    let without_tree = copy(folder.path());
    fs::remove_file(without_tree.path().join("revocations.redb")).unwrap();
    is_refused(&problem(without_tree.path(), &wanted).unwrap());
    assert!(run(without_tree.path()).is_some(), "nothing is removed");
}

#[tokio::test]
async fn a_run_that_was_not_ended_is_removed() {
    let (folder, wanted) = settled().await;
    let left = folder.path().join("revocations-77.run");
    fs::write(&left, "half of").unwrap();
    assert_eq!(problem(folder.path(), &wanted), None);
    assert!(!left.exists());
}

#[tokio::test]
async fn two_hosts_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let problem = Revocations::open(&settings(folder.path(), false)).unwrap_err().to_string();
    assert!(problem.contains("another process has it open"), "{problem}");
    assert!(problem.contains("set revocations.data_dir"), "{problem}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let problem = Revocations::open(&settings(&file, false)).unwrap_err().to_string();
    assert!(
        problem.starts_with(&format!("revocations.data_dir: {}: ", file.display())),
        "{problem}"
    );
    assert!(problem.contains("a volume, in a container"), "{problem}");
}
