//! `redis://` and `rediss://`: all of a server in one line.

use super::{Address, Password, Servers, Settings, Tls};
use std::fmt;

/// A URL that says no server that is served. Its text is not shown: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadUrl(&'static str);

/// Where Redis listens if nothing else is said.
const PORT: u16 = 6379;

impl Settings {
    /// The server that `redis://[user[:password]@]host[:port][/db]` names; with `rediss://`
    /// it is asked over TLS.
    ///
    /// # Errors
    ///
    /// [`BadUrl`] if it is no such URL.
    pub fn from_url(text: &str) -> Result<Self, BadUrl> {
        let url = url::Url::parse(text).map_err(|_| BadUrl("is no URL"))?;
        let tls = match url.scheme() {
            "redis" => None,
            "rediss" => Some(Tls::default()),
            _ => return Err(BadUrl("does not begin with redis:// or rediss://")),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BadUrl("has parameters (?… or #…), which are not served"));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(BadUrl("has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = Address::new(host, url.port().unwrap_or(PORT));
        let mut settings = Self::new(Servers::Standalone(address));
        settings.access.tls = tls;
        let credentials = &mut settings.access.credentials;
        let decoded = |text: &str| {
            let bytes = percent_encoding::percent_decode_str(text);
            bytes.decode_utf8().map(Into::into).map_err(|_| BadUrl("has a user that is not UTF-8"))
        };
        if !url.username().is_empty() {
            credentials.username = Some(decoded(url.username())?);
        }
        if let Some(password) = url.password() {
            credentials.password = Password::Text(decoded(password)?);
        }
        settings.db = match url.path().trim_start_matches('/') {
            "" => 0,
            db => db
                .parse::<u16>()
                .map_err(|_| BadUrl("has a path that is no database number"))?
                .into(),
        };
        Ok(settings)
    }
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; wanted redis://[user[:password]@]host[:port][/db], or rediss://…", self.0)
    }
}

impl std::error::Error for BadUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_all_there_is_to_say() {
        let settings = Settings::from_url("redis://us%40er:p%3Aw@redis.example:7000/3").unwrap();
        assert_eq!(settings.db, 3);
        assert!(address(&settings) == &Address::new("redis.example", 7000), "{settings:?}");
        assert_eq!(settings.access.credentials.username.as_deref(), Some("us@er"));
        assert_eq!(settings.access.credentials.password.read().unwrap().as_deref(), Some("p:w"));
        assert!(settings.access.tls.is_none());
        let settings = Settings::from_url("redis://[::1]").unwrap();
        assert!(address(&settings) == &Address::new("::1", 6379), "{settings:?}");
        assert_eq!(settings.access.credentials.password.read().unwrap(), None);
        let settings = Settings::from_url("rediss://:token@cache.example:6380").unwrap();
        assert!(settings.access.tls.is_some());
        assert_eq!(settings.access.credentials.username, None);
    }

    #[test]
    fn what_is_not_served_is_refused_without_showing_it() {
        for (url, why) in [
            ("redis.example:6379", "does not begin with redis:// or rediss://"),
            ("not a url with hunter2", "is no URL"),
            ("valkey://:hunter2@h", "does not begin with redis:// or rediss://"),
            ("redis://:hunter2@h/x", "has a path that is no database number"),
            (
                "redis://:hunter2@h/0?protocol=resp3",
                "has parameters (?… or #…), which are not served",
            ),
            ("rediss://:hunter2@h/#insecure", "has parameters (?… or #…), which are not served"),
            ("redis:///0", "has no host"),
        ] {
            let bad = Settings::from_url(url).unwrap_err();
            assert_eq!(bad.0, why, "{url}");
            assert!(!bad.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let settings = Settings::from_url("redis://u:hunter2@h").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    fn address(settings: &Settings) -> &Address {
        match &settings.servers {
            Servers::Standalone(address) => address,
            other => panic!("{other:?}"),
        }
    }
}
