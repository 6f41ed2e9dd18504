//! Passwords: used, re-read when they rotate, never shown.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The longest password file read.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

/// A password, or where to find it. Never shown.
#[derive(Clone, Default)]
pub enum Password {
    /// The server asks for none.
    #[default]
    None,
    /// This one.
    Text(String),
    /// The first line of this file, read for each connection: it may be rotated.
    File(PathBuf),
}

impl Password {
    /// The password as it is now.
    pub(crate) fn read(&self) -> io::Result<Option<String>> {
        match self {
            Self::None => Ok(None),
            Self::Text(text) => Ok(Some(text.clone())),
            Self::File(path) => {
                if std::fs::metadata(path)?.len() > PASSWORD_BYTES_MAX {
                    return Err(io::Error::other("it is too large to be one"));
                }
                let text = std::fs::read_to_string(path)?;
                Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
            }
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_is_read_anew_and_to_its_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let password = Password::File(path.clone());
        assert!(password.read().is_err());
        for (text, first) in [("one\n", "one"), ("two\r\n", "two"), ("three", "three"), ("", "")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(password.read().unwrap().as_deref(), Some(first));
        }
    }
}
