//! One thing that was looked at, and how it is.

use serde::Serialize;
use std::borrow::Cow;

/// How something is. The order is that of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    /// As it should be.
    Ok,
    /// We may not ask. Nothing follows from that.
    NotAllowed,
    /// It works, but not as it should, or not when something else fails.
    Warning,
    /// Limits are not counted, or will not be when they must.
    Critical,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub level: Level,
    /// What was looked at: one of a fixed few words.
    pub check: &'static str,
    /// Of whom: an address, or nothing where it is about all.
    pub subject: String,
    /// What was found.
    pub found: String,
    /// What to do about it, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Cow<'static, str>>,
}

impl Level {
    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::NotAllowed => "NOT ASKED",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }

    /// The program's exit code: 0, 1 or 2.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ok | Self::NotAllowed => 0,
            Self::Warning => 1,
            Self::Critical => 2,
        }
    }
}

impl Finding {
    pub(super) fn new(
        level: Level,
        check: &'static str,
        subject: impl ToString,
        found: impl Into<String>,
    ) -> Self {
        Self { level, check, subject: subject.to_string(), found: found.into(), remedy: None }
    }

    pub(super) fn ok(
        check: &'static str,
        subject: impl ToString,
        found: impl Into<String>,
    ) -> Self {
        Self::new(Level::Ok, check, subject, found)
    }

    pub(super) fn warning(
        check: &'static str,
        subject: impl ToString,
        found: impl Into<String>,
    ) -> Self {
        Self::new(Level::Warning, check, subject, found)
    }

    pub(super) fn critical(
        check: &'static str,
        subject: impl ToString,
        found: impl Into<String>,
    ) -> Self {
        Self::new(Level::Critical, check, subject, found)
    }

    /// It was not answered: by right, or for some other reason.
    pub(super) fn unanswered<T>(
        check: &'static str,
        subject: impl ToString,
        told: &tidegate_redis::inspect::Told<T>,
        what: &str,
    ) -> Option<Self> {
        use tidegate_redis::inspect::Told;
        match told {
            Told::Is(_) => None,
            Told::NotAllowed => Some(Self::new(
                Level::NotAllowed,
                check,
                subject,
                format!("not allowed to ask ({what})"),
            )),
            Told::Failed(why) => Some(Self::warning(check, subject, format!("{what}: {why}"))),
        }
    }

    pub(super) fn remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}
