//! Why there is no answer.

use std::fmt;

/// Why an ask got no answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no connection now. Nothing was sent.
    Away,
}

impl Error {
    /// A short name, for metrics: one of a fixed few.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Away => "away",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redis is away")
    }
}

impl std::error::Error for Error {}
