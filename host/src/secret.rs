//! Text that is used and never shown.

use serde::Deserialize;
use std::fmt;

/// A secret: neither `Debug` nor any message shows it, and there is no `Display`.
#[derive(Clone, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// Takes a text for one.
    pub(crate) const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
