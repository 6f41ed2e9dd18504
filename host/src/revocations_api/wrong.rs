//! What is wrong with a request: where, what was found, what was wanted.
//!
//! A message quotes times and names of fields, and never what an id is made of: callers know
//! what they sent, and logs of theirs must not come to hold it by way of ours.

use std::fmt;

/// How much of a name a message quotes.
const QUOTED_CHARS_MAX: usize = 60;

/// Something wrong with a request, as a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Where in the body, such as `[3].exp`; empty for all of it.
    path: String,
    what: String,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { path: String::new(), what: what.into() }
    }

    pub(super) fn at(path: &str, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), what: what.into() }
    }

    /// It was in this element of a list.
    pub(super) fn within(self, index: usize) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { path: format!("[{index}]{dot}{}", self.path), what: self.what }
    }

    /// Of reading JSON: in one line, by its column alone.
    pub(super) fn of_line(error: &serde_json::Error) -> Self {
        Self::at(&format!("column {}", error.column()), said(error))
    }

    /// Of reading JSON: in a body of any number of lines.
    pub(super) fn of_body(error: &serde_json::Error) -> Self {
        let place = format!("line {} column {}", error.line(), error.column());
        Self::at(&place, said(error))
    }
}

/// What an error says, without its place.
fn said(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    said.strip_suffix(&place).map_or_else(|| said.clone(), str::to_owned)
}

/// "There is no such …, did you mean …?", or all that could be meant.
pub(super) fn nearest(what: &str, name: &str, known: &[&str]) -> String {
    /// Below this two names share too little to be one mistyped; but short ones.
    const ALIKE_MIN: f64 = 0.75;
    let alike = known
        .iter()
        .map(|known| match strsim::osa_distance(name, known) {
            1 => (1.0, known),
            _ => (strsim::jaro_winkler(name, known), known),
        })
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let hint = match alike {
        Some((_, known)) => format!("did you mean {known:?}?"),
        None => format!("wanted one of {}", known.join(", ")),
    };
    format!("there is no {what} {:?}: {hint}", quoted(name))
}

/// The beginning of a text.
pub(super) fn quoted(text: &str) -> String {
    let mut start: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)
    }
}
