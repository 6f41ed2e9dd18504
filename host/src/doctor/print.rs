//! Findings, told to a person or to a program.

use super::finding::{Finding, Level};
use serde::Serialize;
use std::io::{self, Write};

/// Wide enough for every level's name.
const LEVEL_WIDTH: usize = 9;

/// A line for each finding, the remedy below it, and a last line that sums up.
pub(super) fn table(
    title: &str,
    findings: &[Finding],
    worst: Level,
    out: &mut dyn Write,
) -> io::Result<()> {
    let width = |of: &dyn Fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or(0);
    let check_width = width(&|finding| finding.check.len());
    let subject_width = width(&|finding| finding.subject.chars().count());
    writeln!(out, "{title}\n")?;
    for Finding { level, check, subject, found, remedy } in findings {
        let level = level.name();
        let line = format!(
            "{level:LEVEL_WIDTH$}  {check:check_width$}  {subject:subject_width$}  {found}"
        );
        writeln!(out, "{}", line.trim_end())?;
        if let Some(remedy) = remedy {
            writeln!(out, "{:LEVEL_WIDTH$}  → {remedy}", "")?;
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (critical, warnings) = (count(Level::Critical), count(Level::Warning));
    let (not_asked, ok) = (count(Level::NotAllowed), count(Level::Ok));
    writeln!(
        out,
        "\n{}: {critical} critical, {warnings} warnings, {ok} as they should be, {not_asked} not asked",
        worst.name()
    )
}

#[derive(Serialize)]
struct Report<'a> {
    status: Level,
    exit_code: u8,
    about: &'a str,
    findings: &'a [Finding],
}

/// One object, on one line.
pub(super) fn json(
    title: &str,
    findings: &[Finding],
    worst: Level,
    out: &mut dyn Write,
) -> io::Result<()> {
    let report = Report { status: worst, exit_code: worst.exit_code(), about: title, findings };
    serde_json::to_writer(&mut *out, &report)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::critical("reach", "10.0.0.1:6379", "connect: refused").remedy("start it"),
            Finding::ok("memory", "10.0.0.2:6379", "20 of 100 MiB"),
        ]
    }

    #[test]
    fn a_table_says_what_to_do() {
        let mut out = Vec::new();
        table("one Redis", &findings(), Level::Critical, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "one Redis\n\n\
             CRITICAL   reach   10.0.0.1:6379  connect: refused\n           \
             → start it\n\
             OK         memory  10.0.0.2:6379  20 of 100 MiB\n\n\
             CRITICAL: 1 critical, 0 warnings, 1 as they should be, 0 not asked\n"
        );
    }

    #[test]
    fn a_program_is_told_the_same() {
        let mut out = Vec::new();
        json("one Redis", &findings(), Level::Critical, &mut out).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&told["status"], &told["exit_code"]), (&"CRITICAL".into(), &2.into()));
        assert_eq!(told["findings"][0]["remedy"], "start it");
        assert!(told["findings"][1].get("remedy").is_none());
    }
}
