//! Arguments → configuration → run; exit codes.
//!
//! 0: ended as it was told to · 64: wrong usage, files of cases that cannot be run among it ·
//! 78: wrong configuration · 1: anything else, a case that failed or a policy that cannot be
//! used among it. `doctor`, `revoke` and `revocations` have codes of their own: see their help.

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tidegate::config::Loaded;

/// `EX_USAGE` of sysexits.h.
const EXIT_USAGE: u8 = 64;
/// `EX_SOFTWARE` of sysexits.h: 1 and 2 are findings of the doctor's.
const EXIT_SOFTWARE: u8 = 70;
/// `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: u8 = 78;

/// Rate limits that hold across many proxies.
#[derive(Parser)]
// Lines as they are: whether they were wrapped would depend on who else is built with us.
#[command(name = "tidegate", version, arg_required_else_help = true, term_width = 0)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer the asks of proxies, from memory or from Redis
    #[command(after_help = variables())]
    Serve {
        /// The configuration; without it, defaults and TIDEGATE_* variables
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Stand before an origin, and run proxy-wasm filters on every request
    Proxy(Box<tidegate::proxy::Arguments>),
    /// Tell what a policy file means, or what is wrong with it
    Check {
        /// The policy: YAML, or JSON if its name ends in .json
        file: PathBuf,
        /// Whether this component is what the policy takes a plugin for; may be repeated
        #[arg(long = "plugin", value_name = "NAME=FILE")]
        plugins: Vec<tidegate::check::Plugin>,
    },
    /// Tell whether the Redis and the plugins that `serve` would use are fit for limits, and what to do if not
    #[command(after_help = DOCTOR)]
    Doctor {
        /// The configuration, as for `serve`; without it, defaults and TIDEGATE_* variables
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Tell it as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token, a session, or all that somebody has been issued
    #[command(after_help = tidegate::cli::EXITS)]
    Revoke(Box<tidegate::cli::RevokeArguments>),
    /// List, count, check, lift, import and export what is revoked
    Revocations(Box<tidegate::cli::RevocationsArguments>),
    /// Try policies on a virtual clock, against the shipped filter
    #[command(after_help = CASES)]
    Test(TestArguments),
}

/// What files of cases look like, for the help.
const CASES: &str = "\
A file of cases, shop.test.yaml:
  policy: shop.yaml                       # beside it, or a policy right here
  cases:
    - name: a burst passes, and then one request in 600 ms
      request: GET /api/items
      steps:
        - { times: 21, expect: { allowed: 20, limited: 1, limit: per-client } }
        - { at: 600ms, expect: allowed }

Exit: 0 all passed, 1 a case failed, 64 a file cannot be run";

/// What the doctor's answers mean, for the help.
const DOCTOR: &str = "\
Each finding is OK, WARNING (it works, but not as it should, or not when something else
fails), CRITICAL (limits are not counted), or NOT ASKED (the server does not let us).
Nothing is changed; the script runs on keys of its own, which expire.

Exit: 0 OK, 1 WARNING, 2 CRITICAL, 64 wrong usage, 70 it could not be told, 78 wrong
configuration. The variables are those of `tidegate serve --help`";

#[derive(clap::Args)]
struct TestArguments {
    /// Files of cases, and folders to search for *.test.yaml
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Run only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Name the cases and run none
    #[arg(long)]
    list: bool,
    /// Write a report in JUnit's format, too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Try another filter than the shipped one
    #[arg(long, value_name = "FILE")]
    filter_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(Arguments { command: Command::Serve { config } }) => serve(config),
        Ok(Arguments { command: Command::Proxy(arguments) }) => proxy(&arguments),
        Ok(Arguments { command: Command::Check { file, plugins } }) => check(&file, &plugins),
        Ok(Arguments { command: Command::Doctor { config, json } }) => doctor(config, json),
        Ok(Arguments { command: Command::Revoke(arguments) }) => {
            asked(tidegate::cli::revoke(*arguments, &mut std::io::stdout().lock()))
        }
        Ok(Arguments { command: Command::Revocations(arguments) }) => {
            asked(tidegate::cli::revocations(*arguments, &mut std::io::stdout().lock()))
        }
        Ok(Arguments { command: Command::Test(arguments) }) => test(arguments),
        Err(asked) if !asked.use_stderr() => {
            print!("{asked}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprint!("{wrong}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// The table of variables, for the help.
fn variables() -> String {
    let lines =
        tidegate::config::VARIABLES.iter().map(|(name, path)| format!("  {name:40} {path}"));
    let table: Vec<String> = lines.collect();
    format!("Environment, each over the file's setting beside it:\n{}", table.join("\n"))
}

/// The configuration from a file and the environment; tells what is wrong with it.
fn load(file: Option<&Path>) -> Option<Loaded> {
    let names: Vec<String> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let lookup = |name: &str| std::env::var(name).ok();
    tidegate::config::load(file, &lookup, &names)
        .inspect_err(|problem| eprintln!("tidegate: {problem}"))
        .ok()
}

fn serve(file: Option<PathBuf>) -> ExitCode {
    let Some(loaded) = load(file.as_deref()) else { return ExitCode::from(EXIT_CONFIG) };
    tidegate::logs::start(loaded.config.log_level, loaded.config.log_format);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match tidegate::service::run(loaded.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tidegate: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn doctor(file: Option<PathBuf>, json: bool) -> ExitCode {
    use tidegate::doctor::{Form, run};
    let Some(Loaded { config, warnings }) = load(file.as_deref()) else {
        return ExitCode::from(EXIT_CONFIG);
    };
    let form = if json { Form::Json } else { Form::Table };
    match run(&config, &warnings, form, &mut std::io::stdout().lock()) {
        Ok(worst) => ExitCode::from(worst.exit_code()),
        Err(failure) => {
            eprintln!("tidegate: {failure}");
            ExitCode::from(EXIT_SOFTWARE)
        }
    }
}

fn proxy(arguments: &tidegate::proxy::Arguments) -> ExitCode {
    use tidegate::proxy::Failure;
    let Err(failure) = tidegate::proxy::run(arguments) else { return ExitCode::SUCCESS };
    eprintln!("tidegate: {failure}");
    match failure {
        Failure::Usage(_) => ExitCode::from(EXIT_USAGE),
        Failure::Settings(_) => ExitCode::from(EXIT_CONFIG),
        Failure::Other(_) => ExitCode::FAILURE,
    }
}

fn check(file: &Path, plugins: &[tidegate::check::Plugin]) -> ExitCode {
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    match tidegate::check::run(file, plugins, &mut out, &mut err) {
        Ok(true) => ExitCode::SUCCESS,
        // A reader that went away (`| head`) has seen what it wanted, but not all.
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// What the command line asked of a server.
fn asked(ended: Result<tidegate::cli::Found, tidegate::cli::Failure>) -> ExitCode {
    match ended {
        Ok(found) => ExitCode::from(found.exit_code()),
        Err(failure) => {
            eprintln!("tidegate: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn test(arguments: TestArguments) -> ExitCode {
    let TestArguments { paths, only, list, junit, filter_file } = arguments;
    let cache = tidegate::shipped::cache();
    let options = tidegate::test::Options { paths, only, list, junit, filter_file, cache };
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    match tidegate::test::run(&options, &mut out, &mut err) {
        Ok(tidegate::test::Ended::Passed) => ExitCode::SUCCESS,
        Ok(tidegate::test::Ended::Unusable) => ExitCode::from(EXIT_USAGE),
        Ok(tidegate::test::Ended::Failed) | Err(_) => ExitCode::FAILURE,
    }
}
