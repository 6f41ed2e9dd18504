//! What a person types in this repository: `cargo xtask <command>`.
//!
//! Every command finds or fetches what it needs, says what it does and why,
//! and leaves alone what is there already, so each may be run twice.
//!
//! `build filter` asks rustc to link through this very program: see [`linker`].

mod bench;
mod checkers;
mod command;
mod component;
mod demo;
mod faults;
mod filter;
mod foreign;
mod guests;
mod linker;
mod module;
mod parts;
mod test;
mod toolchain;
mod tools;
mod wasm;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::prelude::*;

use crate::test::Step;
use crate::wasm::Exceptions;
use crate::workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask <command>

  demo [--keep]
      Shows what Tidegate does: two real Envoys with the filter, the host service, traffic, and an
      account of what became of it. --keep: stays up until Ctrl-C, and says where and what to try.

  build filter [--legacy-eh]
      Builds target/filter/tidegate.wasm, and tidegate-standing.wasm, which can also write the
      standing into responses. --legacy-eh: with the exception opcodes that older Envoys know.

  build component
      Builds target/component/tidegate.component.wasm: the same limiter for hosts that speak the
      component model, as the world `edge-guard` of wit/.

  build guests
      Builds into target/guests/ the filters that the conformance tests run.

  tools
      Finds or fetches what the tests run against, Envoy and Redis, and prints where they are.
      TIDEGATE_ENVOY, TIDEGATE_REDIS_SERVER and TIDEGATE_REDIS_CLI name programs of your own.

  test [--only STEP,...] [-- ARGUMENTS]
      Runs all steps in this order: fmt, clippy, deny, filter, reproducible, tests,
      bundled, foreign, deploy, demo. What `deploy` checks manifests and rules with it fetches, and
      `foreign` the tools of other languages; where that cannot be, they are skipped aloud, or
      fail if TIDEGATE_REQUIRE_REAL=1.
      ARGUMENTS go to the step tests' `cargo test`, and without -p they pick tests in all packages.

  test faults [NAME...]
      Makes faults of a real Redis, Sentinel and Cluster under load through a real Envoy, all or
      those of these names, and prints what each cost. Fails if a promise was broken. Takes a
      quarter of an hour, and root for networks of its own: not among the steps.

  bench filter [--rounds N]
      Measures what the filter costs a request, beside Envoy's own local_ratelimit; N rounds of
      all cells in turn.

  bench component [--rounds N]
      Measures what a decision costs in core, in the filter and in the component, both in wasmtime.

  bench host [--rounds N]
      Measures what `tidegate proxy` costs, beside Envoy with the same filter.

  bench global [--rounds N]
      Measures what a global limit costs a request in all processes, leased and asked for each
      time, and presses four Envoys against one limit.

  bench plugins [--rounds N]
      Measures what a plugin costs a request, by hand and in the languages of `wit/examples`, whose
      tools it fetches.

  bench propagation [--rounds N]
      Measures how long until all workers of two Envoys enforce what was revoked.

  bench redis [--rounds N]
      Measures how much of what one Redis can decide comes through the host service, and what a
      decision costs each of them.

  bench revocation [--rounds N] [--entries N]
      Revokes ten million tokens, or N: how long that takes, how soon proxies know of it, whether
      the filter misses any, and what a look costs a request.
";

/// What the command line asked for.
#[derive(Debug, PartialEq)]
enum Task {
    Help,
    Demo { keep: bool },
    Bench { what: bench::What, rounds: u32, entries: Option<u64> },
    BuildFilter(Exceptions),
    BuildComponent,
    BuildGuests,
    Tools,
    Test { steps: Vec<Step>, arguments: Vec<OsString> },
    Faults { names: Vec<OsString> },
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
        Task::Demo { keep } => demo::run(&Workspace::find()?, keep)?,
        Task::Bench { what, rounds, entries } => {
            bench::run(&Workspace::find()?, what, rounds, entries)?;
        }
        Task::BuildFilter(exceptions) => {
            print!("{}", filter::build(&Workspace::find()?, exceptions)?);
        }
        Task::BuildComponent => {
            print!("{}", component::build(&toolchain::find()?, &Workspace::find()?)?);
        }
        Task::BuildGuests => {
            println!("{}", guests::build(&toolchain::find()?, &Workspace::find()?)?.display());
        }
        Task::Tools => {
            let tools = tools::find(&Workspace::find()?)?;
            println!("envoy         {}", tools.envoy.display());
            println!("redis-server  {}", tools.redis_server.display());
            println!("redis-cli     {}", tools.redis_cli.display());
        }
        Task::Faults { names } => faults::run(&Workspace::find()?, &names)?,
        Task::Test { steps, arguments } => test::run(&Workspace::find()?, &steps, &arguments)?,
    }
    Ok(())
}

fn parse(mut args: lexopt::Parser) -> Result<Task> {
    let task = match args.next()? {
        None | Some(Long("help") | Short('h')) => Task::Help,
        Some(Value(command)) => match command.to_str() {
            Some("help") => Task::Help,
            Some("demo") => demo_task(&mut args)?,
            Some("bench") => bench_task(&mut args)?,
            Some("build") => build_task(&mut args)?,
            Some("tools") => Task::Tools,
            Some("test") => test_task(&mut args)?,
            _ => bail!("there is no command `{}`", command.display()),
        },
        Some(other) => return Err(other.unexpected().into()),
    };
    match args.next()? {
        None => Ok(task),
        Some(extra) => Err(extra.unexpected().into()),
    }
}

fn demo_task(args: &mut lexopt::Parser) -> Result<Task> {
    match args.next()? {
        None => Ok(Task::Demo { keep: false }),
        Some(Long("keep")) => Ok(Task::Demo { keep: true }),
        Some(other) => Err(other.unexpected().into()),
    }
}

fn bench_task(args: &mut lexopt::Parser) -> Result<Task> {
    let what = bench::What::named(expect("bench", &bench::What::NAMES, args)?);
    let (mut rounds, mut entries) = (what.rounds(), None);
    loop {
        match args.next()? {
            None => return Ok(Task::Bench { what, rounds, entries }),
            Some(Long("rounds")) => rounds = args.value()?.parse()?,
            Some(Long("entries")) if what == bench::What::Revocation => {
                entries = Some(args.value()?.parse()?);
            }
            Some(other) => return Err(other.unexpected().into()),
        }
    }
}

/// The next word, which must be one of `known`.
fn expect(
    command: &str,
    known: &[&'static str],
    args: &mut lexopt::Parser,
) -> Result<&'static str> {
    match args.next()? {
        Some(Value(what)) => match known.iter().find(|known| what == **known) {
            Some(known) => Ok(known),
            None => bail!("`{command}` knows {}, not `{}`", known.join(" and "), what.display()),
        },
        Some(other) => Err(other.unexpected().into()),
        None => bail!("`{command}` wants a name: `{command} {}`", known.join("` or `")),
    }
}

fn build_task(args: &mut lexopt::Parser) -> Result<Task> {
    match expect("build", &["filter", "component", "guests"], args)? {
        "component" => return Ok(Task::BuildComponent),
        "guests" => return Ok(Task::BuildGuests),
        _ => {}
    }
    match args.next()? {
        None => Ok(Task::BuildFilter(Exceptions::Standard)),
        Some(Long("legacy-eh")) => Ok(Task::BuildFilter(Exceptions::Legacy)),
        Some(other) => Err(other.unexpected().into()),
    }
}

fn test_task(args: &mut lexopt::Parser) -> Result<Task> {
    let mut steps = Vec::new();
    loop {
        if let Some(rest) = args.try_raw_args()
            && rest.peek().is_some_and(|next| next == "--")
        {
            let arguments = rest.skip(1).collect();
            return Ok(Task::Test { steps: all_if_empty(steps), arguments });
        }
        match args.next()? {
            Some(Value(word)) if word == "faults" && steps.is_empty() => {
                return Ok(Task::Faults { names: args.raw_args()?.collect() });
            }
            Some(Long("only")) => {
                for name in args.value()?.string()?.split(',') {
                    steps.push(Step::named(name)?);
                }
            }
            Some(other) => return Err(other.unexpected().into()),
            None => return Ok(Task::Test { steps: all_if_empty(steps), arguments: Vec::new() }),
        }
    }
}

fn all_if_empty(steps: Vec<Step>) -> Vec<Step> {
    if steps.is_empty() { Step::ALL.to_vec() } else { steps }
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
        assert_eq!(parsed(&["build", "component"]), Ok(Task::BuildComponent));
        assert_eq!(parsed(&["build", "guests"]), Ok(Task::BuildGuests));
        assert_eq!(parsed(&["tools"]), Ok(Task::Tools));
        assert_eq!(parsed(&["demo"]), Ok(Task::Demo { keep: false }));
        assert_eq!(parsed(&["demo", "--keep"]), Ok(Task::Demo { keep: true }));
        let rounds = bench::What::Filter.rounds();
        assert_eq!(
            parsed(&["bench", "filter"]),
            Ok(Task::Bench { what: bench::What::Filter, rounds, entries: None })
        );
        assert_eq!(
            parsed(&["bench", "filter", "--rounds", "3"]),
            Ok(Task::Bench { what: bench::What::Filter, rounds: 3, entries: None })
        );
        assert_eq!(
            parsed(&["bench", "revocation", "--entries", "100000", "--rounds", "3"]),
            Ok(Task::Bench { what: bench::What::Revocation, rounds: 3, entries: Some(100_000) })
        );
        assert!(parsed(&["bench", "filter", "--entries", "3"]).is_err());
        let names = vec!["full".into(), "frozen".into()];
        assert_eq!(parsed(&["test", "faults", "full", "frozen"]), Ok(Task::Faults { names }));
        assert_eq!(parsed(&["test", "faults"]), Ok(Task::Faults { names: Vec::new() }));
        let all = Task::Test { steps: Step::ALL.to_vec(), arguments: Vec::new() };
        assert_eq!(parsed(&["test"]), Ok(all));
        let steps = vec![Step::Clippy, Step::Tests];
        let arguments = vec!["-p".into(), "tidegate-core".into()];
        assert_eq!(
            parsed(&["test", "--only", "clippy,tests", "--", "-p", "tidegate-core"]),
            Ok(Task::Test { steps, arguments })
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
            (&["build", "guests", "--legacy-eh"], "--legacy-eh"),
            (&["demo", "--kept"], "--kept"),
            (&["bench", "hosts"], "hosts"),
            (&["bench", "filter", "--rounds", "many"], "many"),
            (&["test", "tests"], "tests"),
            (&["test", "--only", "fmt,lint"], "lint"),
        ] {
            let error = parsed(args).expect_err("must be refused");
            assert!(error.contains(named), "{args:?}: {error:?} does not name {named:?}");
        }
    }
}
