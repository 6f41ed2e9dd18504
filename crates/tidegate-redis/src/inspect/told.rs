//! An answer, or why there is none.

use crate::error::{Error, chain};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, FromRedisValue, RedisError, Value};
use std::time::Duration;
use tokio::time::timeout;

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// The answer.
    Is(T),
    /// We may not ask that: the user lacks the right, or the command was taken away.
    NotAllowed,
    /// There is no answer, or one that makes no sense: why, in words.
    Failed(String),
}

impl<T> Told<T> {
    /// The answer, if there is one.
    pub const fn is(&self) -> Option<&T> {
        match self {
            Self::Is(answer) => Some(answer),
            Self::NotAllowed | Self::Failed(_) => None,
        }
    }

    pub(super) fn and_then<U>(self, read: impl FnOnce(T) -> Option<U>) -> Told<U> {
        match self {
            Self::Is(answer) => match read(answer) {
                Some(answer) => Told::Is(answer),
                None => Told::Failed("the answer makes no sense".to_owned()),
            },
            Self::NotAllowed => Told::NotAllowed,
            Self::Failed(why) => Told::Failed(why),
        }
    }

    fn of_error(error: RedisError) -> Self {
        // A renamed command is unknown, and so is one of a newer Redis.
        let is_unknown = error.detail().is_some_and(|text| text.starts_with("unknown"));
        match error.code() {
            Some("NOPERM") => Self::NotAllowed,
            Some("ERR") if is_unknown => Self::NotAllowed,
            _ => Self::Failed(chain(&Error::of(error))),
        }
    }
}

/// Asks, and waits so long.
pub(super) async fn ask(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
    within: Duration,
) -> Told<Value> {
    match timeout(within, connection.req_packed_command(command)).await {
        Err(_) => Told::Failed("no answer in time".to_owned()),
        Ok(Err(error)) => Told::of_error(error),
        Ok(Ok(Value::ServerError(error))) => Told::of_error(error.into()),
        Ok(Ok(value)) => Told::Is(value),
    }
}

/// A command of these words.
pub(super) fn words(words: &[&str]) -> Cmd {
    let (first, rest) = words.split_first().unwrap_or((&"PING", &[]));
    let mut command = redis::cmd(first);
    rest.iter().for_each(|word| {
        command.arg(*word);
    });
    command
}

/// Asks by these words, for an answer of this type.
pub(super) async fn ask_for<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &[&str],
    within: Duration,
) -> Told<T> {
    let value = ask(connection, &words(command), within).await;
    value.and_then(|value| T::from_redis_value(value).ok())
}
