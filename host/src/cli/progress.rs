//! How far long work has got: a bar on a terminal, otherwise a line now and then, on standard
//! error in both cases.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Of what there is so much.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Bytes,
    Records,
}

pub(super) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    told: Instant,
    unit: Unit,
    whole: Option<u64>,
}

impl Progress {
    /// Of so much, if that is known.
    pub(super) fn new(unit: Unit, whole: Option<u64>) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let target =
            if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(whole, target);
        let (done, whole_is) = match unit {
            Unit::Bytes => ("{bytes}", "{total_bytes}"),
            Unit::Records => ("{human_pos}", "{human_len} records"),
        };
        let template = match whole {
            Some(_) => format!("[{{bar:30}}] {done} of {whole_is}, {{eta}} left {{msg}}"),
            None => format!("{{spinner}} {done} {{msg}}"),
        };
        // The template is written here, and right.
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Self { bar, is_terminal, told: Instant::now(), unit, whole }
    }

    /// So much is done.
    pub(super) fn is_at(&mut self, done: u64) {
        self.bar.set_position(done);
        if !self.is_terminal && self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            let unit = match self.unit {
                Unit::Bytes => "bytes",
                Unit::Records => "records",
            };
            let whole = self.whole.map_or_else(String::new, |whole| format!(" of {whole}"));
            let message = self.bar.message();
            let more = if message.is_empty() { "" } else { ": " };
            eprintln!("tidegate: {done}{whole} {unit}{more}{message}");
        }
    }

    /// What else there is to say of it.
    pub(super) fn says(&self, what: String) {
        self.bar.set_message(what);
    }

    /// A line of its own.
    pub(super) fn line(&self, what: &str) {
        self.bar.suspend(|| eprintln!("{what}"));
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
