//! The command line that revokes, and looks at what is revoked: a caller of
//! [`revocations_api`](crate::revocations_api), like any other.
//!
//! - [`server`]: which one, and how it is let in; [`client`]: requests to it
//! - [`thing`]: what is revoked or lifted, as flags
//! - [`secret`]: tokens and cookies, which come from files and never from a command line
//! - [`time`]: times as people write them
//! - [`mod@revoke`], [`look`], [`import`], [`export`]: what there is to do; [`shown`]: how it is told
//! - [`progress`]: how far long work has got

mod client;
mod export;
mod import;
mod look;
mod progress;
mod revoke;
mod secret;
mod server;
mod shown;
mod thing;
mod time;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

/// How it ends, for the help.
pub const EXITS: &str = "\
Exit: 0 done, 1 (check) the token is revoked, (lift) it was not, (import) not all lines are in
force, 64 wrong usage, 65 the server refuses what it was sent, 69 the server cannot be reached or
cannot do it now, 74 a file cannot be read or written, 77 the server does not let us in.

Environment: TIDEGATE_API is --server, TIDEGATE_API_TOKEN_FILE is --api-token-file.";

/// `tidegate revoke`.
#[derive(clap::Args)]
pub struct RevokeArguments {
    #[command(flatten)]
    server: server::Arguments,
    #[command(flatten)]
    thing: thing::Arguments,
    #[command(flatten)]
    times: thing::Times,
    /// The token itself, from a file, or - for standard input; its exp is read from it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["thing", "iss", "times"])]
    token_file: Option<PathBuf>,
}

/// `tidegate revocations`.
#[derive(clap::Args)]
pub struct RevocationsArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Tell what is revoked, in the order of ids
    #[command(after_help = EXITS)]
    List(look::ListArguments),
    /// Tell how many revocations there are, and how it is with them
    #[command(after_help = EXITS)]
    Stats(server::Arguments),
    /// Tell whether a token is revoked, and by which of its ids
    #[command(after_help = EXITS)]
    Check(look::CheckArguments),
    /// Revoke no more
    #[command(after_help = EXITS)]
    Lift(Box<revoke::LiftArguments>),
    /// Take revocations from a file, one in each line
    #[command(after_help = import::HELP)]
    Import(import::Arguments),
    /// Write all revocations to a file, one in each line, as import takes them
    #[command(after_help = EXITS)]
    Export(export::Arguments),
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// As it should.
    Well,
    /// There is something that whoever asked wants to know: see [`EXITS`].
    Something,
}

/// Why it was not done.
#[derive(Debug)]
pub enum Failure {
    /// The command line does not say what to do.
    Usage(String),
    /// The server refuses what it was sent.
    Refused(String),
    /// The server cannot be reached, or cannot do it now.
    Unavailable(String),
    /// A file cannot be read or written.
    File(String),
    /// The server does not let us in.
    NotLetIn(String),
}

/// Revokes.
///
/// # Errors
///
/// [`Failure`].
pub fn revoke(arguments: RevokeArguments, out: &mut dyn Write) -> Result<Found, Failure> {
    let RevokeArguments { server, thing, times, token_file } = arguments;
    run(revoke::run(&server, &thing, &times, token_file.as_deref(), out))
}

/// Lists, counts, checks, lifts, imports or exports.
///
/// # Errors
///
/// [`Failure`].
pub fn revocations(arguments: RevocationsArguments, out: &mut dyn Write) -> Result<Found, Failure> {
    match arguments.command {
        Command::List(arguments) => run(look::list(&arguments, out)),
        Command::Stats(server) => run(look::stats(&server, out)),
        Command::Check(arguments) => run(look::check(&arguments, out)),
        Command::Lift(arguments) => run(revoke::lift(&arguments, out)),
        Command::Import(arguments) => run(import::run(&arguments, out)),
        Command::Export(arguments) => run(export::run(&arguments, out)),
    }
}

fn run(work: impl Future<Output = Result<Found, Failure>>) -> Result<Found, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Unavailable(error.to_string()))?;
    let ended = runtime.block_on(work);
    // Whoever still reads a file for it is not waited for.
    runtime.shutdown_background();
    ended
}

impl Found {
    /// See [`EXITS`].
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Something => 1,
        }
    }
}

impl Failure {
    /// See [`EXITS`]; the numbers are those of sysexits.h.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Refused(_) => 65,
            Self::Unavailable(_) => 69,
            Self::File(_) => 74,
            Self::NotLetIn(_) => 77,
        }
    }

    /// Standard output is gone: whoever read it has seen what they wanted.
    fn output(error: &io::Error) -> Self {
        Self::File(format!("standard output: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(what)
        | Self::Refused(what)
        | Self::Unavailable(what)
        | Self::File(what)
        | Self::NotLetIn(what)) = self;
        f.write_str(what)
    }
}

impl std::error::Error for Failure {}
