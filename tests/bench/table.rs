//! The figures, as Markdown.

use crate::cells::{BARE, Cell, NATIVE};

/// What one load of one cell came to.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Microseconds of CPU time for each request.
    pub(crate) us: f64,
}

/// Prints a row for each cell. `samples` holds each cell's rounds, in the same order.
pub(crate) fn print(cells: &[Cell], samples: &[Vec<Sample>]) {
    let (Some(bare), Some(native)) = (samples.get(BARE), samples.get(NATIVE)) else { return };
    let native_adds = Spread::of(added(native, bare)).median;
    println!(
        "| CPU µs per request, {} rounds | whole | quartiles | added | quartiles | × native |",
        bare.len()
    );
    println!("|---|--:|--:|--:|--:|--:|");
    for (place, (cell, rounds)) in cells.iter().zip(samples).enumerate() {
        let whole = Spread::of(rounds.iter().map(|sample| sample.us).collect());
        print!("| {} | {:.2} | {} |", cell.label, whole.median, whole.quartiles());
        if place == BARE {
            println!(" | | |");
        } else {
            let adds = Spread::of(added(rounds, bare));
            let times = adds.median / native_adds;
            println!(" {:.2} | {} | {times:.2} |", adds.median, adds.quartiles());
        }
    }
}

/// Round by round, what a cell took more than the bare one.
fn added(rounds: &[Sample], bare: &[Sample]) -> Vec<f64> {
    rounds.iter().zip(bare).map(|(with, without)| with.us - without.us).collect()
}

/// A median and what lies around it.
struct Spread {
    lower: f64,
    median: f64,
    upper: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            // Between two values, in proportion.
            let place = (values.len() - 1) as f64 * quarter as f64 / 4.0;
            let (below, share) = (place.floor() as usize, place.fract());
            let next = values[(below + 1).min(values.len() - 1)];
            values[below] + (next - values[below]) * share
        };
        Self { lower: at(1), median: at(2), upper: at(3) }
    }

    fn quartiles(&self) -> String {
        format!("{:.2}–{:.2}", self.lower, self.upper)
    }
}
