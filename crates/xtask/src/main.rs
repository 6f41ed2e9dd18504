//! What a person types in this repository: `cargo xtask <command>`.
//!
//! Every command finds or fetches what it needs, says what it does and why,
//! and leaves alone what is there already, so each may be run twice.
//!
//! `build filter` asks rustc to link through this very program: see [`linker`].

mod command;
mod filter;
mod linker;
mod module;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::prelude::*;

use crate::filter::Exceptions;
use crate::workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask <command>

  build filter [--legacy-eh]   build the filter: target/filter/tidegate.wasm, and
                               tidegate-standing.wasm, which can also write response headers
                               --legacy-eh: with the exception opcodes that older Envoys know
";

/// What the command line asked for.
#[derive(Debug, PartialEq)]
enum Task {
    Help,
    BuildFilter(Exceptions),
}

/// Exit code for a command line that makes no sense (`EX_USAGE` in sysexits.h).
const BAD_USAGE: u8 = 64;

fn main() -> ExitCode {
    // rustc calls us in the linker's place and hands over the linker's arguments.
    if let Some(real) = linker::requested() {
        return linker::link(&real);
    }
    let task = match parse(lexopt::Parser::from_env()) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("xtask: {error}\n\n{USAGE}");
            return BAD_USAGE.into();
        }
    };
    match run(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Help => print!("{USAGE}"),
        Task::BuildFilter(exceptions) => {
            print!("{}", filter::build(&Workspace::find()?, exceptions)?);
        }
    }
    Ok(())
}

fn parse(mut args: lexopt::Parser) -> Result<Task> {
    let task = match args.next()? {
        None | Some(Long("help") | Short('h')) => Task::Help,
        Some(Value(command)) => match command.to_str() {
            Some("help") => Task::Help,
            Some("build") => build_task(&mut args)?,
            _ => bail!("there is no command `{}`", command.display()),
        },
        Some(other) => return Err(other.unexpected().into()),
    };
    match args.next()? {
        None => Ok(task),
        Some(extra) => Err(extra.unexpected().into()),
    }
}

fn build_task(args: &mut lexopt::Parser) -> Result<Task> {
    match args.next()? {
        Some(Value(what)) if what == "filter" => {}
        Some(Value(what)) => bail!("`build` knows `filter`, not `{}`", what.display()),
        Some(other) => return Err(other.unexpected().into()),
        None => bail!("`build` wants a name: `build filter`"),
    }
    match args.next()? {
        None => Ok(Task::BuildFilter(Exceptions::Standard)),
        Some(Long("legacy-eh")) => Ok(Task::BuildFilter(Exceptions::Legacy)),
        Some(other) => Err(other.unexpected().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Task, String> {
        parse(lexopt::Parser::from_args(args)).map_err(|error| error.to_string())
    }

    #[test]
    fn every_command_of_the_usage_is_understood() {
        assert_eq!(parsed(&[]), Ok(Task::Help));
        assert_eq!(parsed(&["--help"]), Ok(Task::Help));
        assert_eq!(parsed(&["build", "filter"]), Ok(Task::BuildFilter(Exceptions::Standard)));
        assert_eq!(
            parsed(&["build", "filter", "--legacy-eh"]),
            Ok(Task::BuildFilter(Exceptions::Legacy))
        );
    }

    #[test]
    fn a_word_too_many_is_refused_by_name() {
        for (args, named) in [
            (&["bild"][..], "bild"),
            (&["build"], "build filter"),
            (&["build", "host"], "host"),
            (&["build", "filter", "--legacy"], "--legacy"),
            (&["build", "filter", "--legacy-eh", "twice"], "twice"),
        ] {
            let error = parsed(args).expect_err("must be refused");
            assert!(error.contains(named), "{args:?}: {error:?} does not name {named:?}");
        }
    }
}
