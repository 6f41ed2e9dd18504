//! What came of the cases, as JUnit's XML, which build servers read.
//!
//! There is no standard; this is the part that all readers agree on: suites, cases, times
//! in seconds, a failure's message and text.

use super::{FileOutcome, Outcome, told};
use std::fmt::Write as _;
use std::time::Duration;

/// All suites, one for each file.
pub(in super::super) fn xml(files: &[FileOutcome<'_>]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let cases = files.iter().map(|file| file.cases.len()).sum::<usize>();
    let failures = files.iter().map(FileOutcome::failures).sum::<usize>();
    let took = seconds(files.iter().map(FileOutcome::took).sum());
    // Writing to a String cannot fail.
    let _ = writeln!(
        xml,
        "<testsuites name=\"tidegate test\" tests=\"{cases}\" failures=\"{failures}\" \
         time=\"{took}\">"
    );
    for file in files {
        suite(file, &mut xml);
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn suite(outcome: &FileOutcome<'_>, xml: &mut String) {
    let name = escaped(&outcome.file.path.display().to_string());
    let (tests, failures) = (outcome.cases.len(), outcome.failures());
    let took = seconds(outcome.took());
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" time=\"{took}\">"
    );
    for case in &outcome.cases {
        one(case, &name, xml);
    }
    xml.push_str("  </testsuite>\n");
}

fn one(outcome: &Outcome<'_>, file: &str, xml: &mut String) {
    let Outcome { case, result, took } = outcome;
    let (name, line) = (escaped(&case.name), case.mark.line);
    let head = format!(
        "    <testcase classname=\"{file}\" name=\"{name}\" file=\"{file}\" line=\"{line}\" \
         time=\"{}\"",
        seconds(*took)
    );
    let _ = match result {
        Ok(_) => writeln!(xml, "{head}/>"),
        Err(failure) => {
            let told = told(failure);
            let message = escaped(told.first().map_or("", |line| line));
            let text = escaped(&format!("{file}:{}\n{}", failure.mark.line, told.join("\n")));
            writeln!(
                xml,
                "{head}>\n      <failure message=\"{message}\">{text}</failure>\n    </testcase>"
            )
        }
    };
}

fn seconds(took: Duration) -> String {
    format!("{:.6}", took.as_secs_f64())
}

/// Text for an attribute or an element. What XML cannot hold at all becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(char),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn no_text_ends_what_it_stands_in() {
        assert_eq!(escaped("a<b> & \"c\"\x1b[0m\n"), "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}[0m\n");
    }
}
