//! Transcripts on disk, and how they are compared.
//!
//! A `.kept` file lists the cases in which our host shall do something else than Envoy: the
//! reason as lines of `#`, then the whole transcript. The list is exact: a case that no
//! longer differs is an error.

use anyhow::{Context, bail};
use harness::Result;

/// Envoy's transcripts, with our own in place of those that shall differ.
///
/// # Errors
///
/// If a kept case is none, has no reason, or is what Envoy does.
pub(crate) fn with_kept(recorded: &str, kept: &str) -> Result<String> {
    let mut cases: Vec<&str> = cases(recorded).collect();
    for entry in kept.split("\n\n").map(str::trim).filter(|entry| !entry.is_empty()) {
        let start = entry.find("case ").context("a case in what is kept")?;
        let (reason, ours) = entry.split_at(start);
        let name = ours.lines().next().unwrap_or_default();
        if !reason.starts_with("# ") {
            bail!("{name} is kept without a reason");
        }
        let envoys = cases.iter_mut().find(|it| it.lines().next() == Some(name));
        let envoys = envoys.with_context(|| format!("{name} is kept, but there is none"))?;
        if *envoys == ours {
            bail!("{name} is kept, but is what Envoy does");
        }
        *envoys = ours;
    }
    Ok(cases.join("\n\n"))
}

/// The cases that differ, both ways; `None` if there are none.
pub(crate) fn difference(recorded: &str, found: &str) -> Option<String> {
    let pairs = cases(recorded).zip(cases(found));
    let differing: Vec<_> = pairs
        .filter(|(recorded, found)| recorded != found)
        .map(|(recorded, found)| lines(recorded, found))
        .collect();
    if cases(recorded).count() != cases(found).count() {
        return Some("other cases than before: write the record anew".to_owned());
    }
    (!differing.is_empty()).then(|| differing.join("\n\n"))
}

fn cases(transcripts: &str) -> impl Iterator<Item = &str> {
    transcripts.split("\n\n").map(str::trim_end)
}

/// All lines, with `-` before those that are only recorded and `+` before those that are new.
fn lines(recorded: &str, found: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (recorded.lines().collect(), found.lines().collect());
    // The longest common subsequence of what is left from each pair of places on.
    let mut longest = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i][j] = if old[i] == new[j] {
                longest[i + 1][j + 1] + 1
            } else {
                longest[i + 1][j].max(longest[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut shown) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            shown.push(format!(" {}", old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            shown.push(format!("-{}", old[i]));
            i += 1;
        } else {
            shown.push(format!("+{}", new[j]));
            j += 1;
        }
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = "case a\n  one\n\ncase b\n  two\n";

    #[test]
    fn what_is_kept_stands_in_for_what_envoy_does() {
        let kept = "# We know better.\ncase b\n  three\n";
        assert_eq!(with_kept(RECORDED, kept).unwrap(), "case a\n  one\n\ncase b\n  three");
        assert_eq!(difference(RECORDED, &with_kept(RECORDED, "").unwrap()), None);
    }

    #[test]
    fn what_is_kept_needs_a_reason_a_case_and_a_difference() {
        for kept in ["case b\n  three\n", "# No.\ncase c\n  three\n", "# No.\ncase b\n  two\n"] {
            assert!(with_kept(RECORDED, kept).is_err(), "{kept}");
        }
    }

    #[test]
    fn a_difference_shows_both_sides() {
        let found = "case a\n  one\n\ncase b\n  more\n  two\n";
        assert_eq!(difference(RECORDED, found).unwrap(), " case b\n+  more\n   two");
        assert!(difference(RECORDED, "case a\n  one\n").is_some());
    }
}
