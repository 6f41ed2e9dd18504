//! A command of Redis's, played again and again: many connections, each with so many commands
//! on their way at once, the next when all of those are answered. That is what
//! `redis-benchmark -c 8 -P 16` does; but that program ends an argument at its first zero byte,
//! and so cannot send what the host sends.

use anyhow::{Context, ensure};
use harness::Result;
use harness::redis::PASSWORD;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// As `-c`: one for each worker of a few proxies.
pub(crate) const CONNECTIONS: usize = 8;

/// As `-P`: the depth that Redis's own figures are commonly told for.
pub(crate) const DEPTH: usize = 16;

/// A command as it goes over the wire.
#[derive(Clone)]
pub(crate) struct Recorded {
    bytes: Vec<u8>,
    /// Where [`KEY_DIGITS`] digits of its key are.
    digits_at: usize,
    /// Lines of its reply.
    reply_lines: usize,
}

/// Digits of a key that differ between keys, as those of `__rand_int__` do.
const KEY_DIGITS: usize = 12;

impl Recorded {
    /// A command of these words, of which that at `key` is a key that ends in `}`.
    pub(crate) fn of(words: &[Vec<u8>], key: usize, reply_lines: usize) -> Result<Self> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        let mut digits_at = 0;
        for (place, word) in words.iter().enumerate() {
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend(word);
            if place == key {
                digits_at = bytes.len().checked_sub(KEY_DIGITS + 1).context("a longer key")?;
            }
            bytes.extend(b"\r\n");
        }
        Ok(Self { bytes, digits_at, reply_lines })
    }
}

/// Connections that are signed in.
pub(crate) struct Player {
    streams: Vec<TcpStream>,
}

impl Player {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = BufStream::new(TcpStream::connect(address).await?);
            stream.get_mut().set_nodelay(true)?;
            sign_in(&mut stream).await?;
            streams.push(stream.into_inner());
        }
        Ok(Self { streams })
    }

    /// Plays the command `times`; how many a second were answered. With `keys`, each is for one
    /// of so many.
    pub(crate) async fn play(
        &mut self,
        recorded: &Recorded,
        times: u64,
        keys: Option<u64>,
    ) -> Result<f64> {
        let batches = times / (CONNECTIONS * DEPTH) as u64;
        let begun = Instant::now();
        let mut playing = JoinSet::new();
        for (place, stream) in self.streams.drain(..).enumerate() {
            let keys = keys.map(|keys| Keys { keys, next: place as u64 });
            playing.spawn(play_on(stream, recorded.clone(), batches, keys));
        }
        while let Some(played) = playing.join_next().await {
            self.streams.push(played??);
        }
        let played = batches * (CONNECTIONS * DEPTH) as u64;
        Ok(played as f64 / begun.elapsed().as_secs_f64())
    }
}

/// Which key is next: all of them in a scattered order.
struct Keys {
    keys: u64,
    next: u64,
}

impl Keys {
    fn next(&mut self) -> u64 {
        self.next = self.next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.next >> 33) % self.keys
    }
}

async fn play_on(
    mut stream: TcpStream,
    recorded: Recorded,
    batches: u64,
    mut keys: Option<Keys>,
) -> Result<TcpStream> {
    let mut batch = recorded.bytes.repeat(DEPTH);
    let mut reply = vec![0; 64 << 10];
    for _ in 0..batches {
        if let Some(keys) = &mut keys {
            for command in batch.chunks_mut(recorded.bytes.len()) {
                let digits = format!("{:0KEY_DIGITS$}", keys.next());
                command[recorded.digits_at..][..KEY_DIGITS].copy_from_slice(digits.as_bytes());
            }
        }
        stream.write_all(&batch).await?;
        let mut missing = DEPTH * recorded.reply_lines;
        while missing > 0 {
            let count = stream.read(&mut reply).await?;
            let came = &reply[..count];
            // Numbers in replies are never below zero, so a minus is an error's.
            ensure!(count > 0 && !came.contains(&b'-'), "{}", String::from_utf8_lossy(came));
            let lines = came.iter().filter(|byte| **byte == b'\n').count();
            missing = missing.checked_sub(lines).context("no more than the replies")?;
        }
    }
    Ok(stream)
}

/// What Redis hears while somebody does something: its words, from the first command that has
/// `part` in it.
pub(crate) async fn heard(
    address: SocketAddr,
    part: &str,
    doing: impl Future<Output = Result<()>>,
) -> Result<Vec<Vec<u8>>> {
    let mut stream = BufStream::new(TcpStream::connect(address).await?);
    sign_in(&mut stream).await?;
    stream.write_all(b"MONITOR\r\n").await?;
    stream.flush().await?;
    expect_ok(&mut stream).await?;
    doing.await?;
    let mut line = String::new();
    while !line.contains(part) || line.contains(" lua] ") {
        line.clear();
        ensure!(stream.read_line(&mut line).await? > 0, "Redis no longer says what it hears");
    }
    Ok(words(line.trim_end()))
}

async fn sign_in(stream: &mut BufStream<TcpStream>) -> Result<()> {
    stream.write_all(format!("AUTH {PASSWORD}\r\n").as_bytes()).await?;
    stream.flush().await?;
    expect_ok(stream).await
}

async fn expect_ok(stream: &mut BufStream<TcpStream>) -> Result<()> {
    let mut said = String::new();
    stream.read_line(&mut said).await?;
    ensure!(said == "+OK\r\n", "Redis says {said:?}");
    Ok(())
}

/// The quoted words of a line of MONITOR's, each as it was sent.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut characters = line.chars().skip_while(|character| *character != '"');
    while characters.next().is_some() {
        let mut word = Vec::new();
        while let Some(character) = characters.next().filter(|character| *character != '"') {
            let escaped = (character == '\\').then(|| characters.next()).flatten();
            word.push(match escaped {
                None => character as u8,
                Some('x') => {
                    let mut digit = || characters.next().and_then(|hex| hex.to_digit(16));
                    let (high, low) = (digit().unwrap_or(0), digit().unwrap_or(0));
                    u8::try_from(high * 16 + low).unwrap_or(0)
                }
                Some('n') => b'\n',
                Some('r') => b'\r',
                Some('t') => b'\t',
                Some('a') => 7,
                Some('b') => 8,
                Some(other) => other as u8,
            });
        }
        words.push(word);
        characters.next();
    }
    words
}
