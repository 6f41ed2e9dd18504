//! How to reach a Redis server and how long to wait for it, in the words that users of
//! other Redis clients know. Each field says what its word means here.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// One standalone Redis server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Host name or IP address; resolved anew for each connection.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Who we are.
    pub credentials: Credentials,
    /// Database number.
    pub db: u32,
    /// How many batches may be under way at once, on one connection.
    ///
    /// Default 4: while one is on its way back another is counted and the next is gathered.
    /// More makes batches smaller, not faster.
    pub pool_size: usize,
    /// How often a command is sent again that provably did not run. Default 1: the script
    /// was lost (`SCRIPT FLUSH`, a restart) and is there again.
    pub max_retries: u16,
    /// The longest time for one attempt to connect, all of it: resolve, connect, sign in,
    /// load the script. Default 500 ms. No ask ever waits for it.
    pub dial_timeout: Duration,
    /// The longest time from a batch's sending to its replies. Default 50 ms: beyond that the
    /// proxies that asked have long decided on their own. What was asked may still be charged.
    pub read_timeout: Duration,
    /// How long sent bytes may stay unacknowledged before the connection is given up. Default 1 s.
    pub write_timeout: Duration,
    /// The longest time that an ask waits to be sent. Default 20 ms. Nothing is charged then.
    pub pool_timeout: Duration,
    /// A connection that carried no ask for this long is replaced, its successor being ready
    /// first. Default 4 min, below the idle limits of common load balancers and clouds.
    pub idle_timeout: Option<Duration>,
    /// A connection of this age is replaced, its successor being ready first. Default: never.
    pub max_conn_age: Option<Duration>,
}

/// Who we are to the server.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// ACL user; none is Redis's `default` user. It needs no more than
    /// `~tidegate:* +evalsha +script|load +mget +set +time`, and `+select` for a database
    /// other than 0.
    pub username: Option<String>,
    /// Its password.
    pub password: Password,
}

/// A password, or where to find it. Never shown.
#[derive(Clone)]
pub enum Password {
    /// The server asks for none.
    None,
    /// This one.
    Text(String),
    /// The first line of this file, read for each connection: it may be rotated.
    File(PathBuf),
}

/// A URL that says no server that is served. Its text is not shown: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadUrl(&'static str);

/// The longest password file read.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

impl Settings {
    /// The server at `host` and `port`, with nothing else said.
    pub const fn new(host: String, port: u16) -> Self {
        Self {
            host,
            port,
            credentials: Credentials { username: None, password: Password::None },
            db: 0,
            pool_size: 4,
            max_retries: 1,
            dial_timeout: Duration::from_millis(500),
            read_timeout: Duration::from_millis(50),
            write_timeout: Duration::from_secs(1),
            pool_timeout: Duration::from_millis(20),
            idle_timeout: Some(Duration::from_secs(240)),
            max_conn_age: None,
        }
    }

    /// The server that `redis://[user[:password]@]host[:port][/db]` names.
    ///
    /// # Errors
    ///
    /// [`BadUrl`] if it is no such URL.
    pub fn from_url(text: &str) -> Result<Self, BadUrl> {
        let url = url::Url::parse(text).map_err(|_| BadUrl("is no URL"))?;
        if url.scheme() != "redis" {
            return Err(BadUrl("does not begin with redis://"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BadUrl("has parameters (?… or #…), which are not served"));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(BadUrl("has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut settings = Self::new(host.to_owned(), url.port().unwrap_or(6379));
        let decoded = |text: &str| {
            let bytes = percent_encoding::percent_decode_str(text);
            bytes.decode_utf8().map(Into::into).map_err(|_| BadUrl("has a user that is not UTF-8"))
        };
        if !url.username().is_empty() {
            settings.credentials.username = Some(decoded(url.username())?);
        }
        if let Some(password) = url.password() {
            settings.credentials.password = Password::Text(decoded(password)?);
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

impl Password {
    /// The password as it is now.
    pub(crate) fn read(&self) -> io::Result<Option<String>> {
        match self {
            Self::None => Ok(None),
            Self::Text(text) => Ok(Some(text.clone())),
            Self::File(path) => {
                if std::fs::metadata(path)?.len() > PASSWORD_BYTES_MAX {
                    return Err(io::Error::other("the password file is too large to be one"));
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

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; wanted redis://[user[:password]@]host[:port][/db]", self.0)
    }
}

impl std::error::Error for BadUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_all_there_is_to_say() {
        let settings = Settings::from_url("redis://us%40er:p%3Aw@redis.example:7000/3").unwrap();
        assert_eq!(
            (settings.host.as_str(), settings.port, settings.db),
            ("redis.example", 7000, 3)
        );
        assert_eq!(settings.credentials.username.as_deref(), Some("us@er"));
        assert_eq!(settings.credentials.password.read().unwrap().as_deref(), Some("p:w"));
        let settings = Settings::from_url("redis://[::1]").unwrap();
        assert_eq!((settings.host.as_str(), settings.port, settings.db), ("::1", 6379, 0));
        assert_eq!(settings.credentials.password.read().unwrap(), None);
    }

    #[test]
    fn what_is_not_served_is_refused_without_showing_it() {
        for (url, why) in [
            ("redis.example:6379", "does not begin with redis://"),
            ("not a url with hunter2", "is no URL"),
            ("rediss://:hunter2@h", "does not begin with redis://"),
            ("redis://:hunter2@h/x", "has a path that is no database number"),
            (
                "redis://:hunter2@h/0?protocol=resp3",
                "has parameters (?… or #…), which are not served",
            ),
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
