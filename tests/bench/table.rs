//! The figures, as Markdown.

use crate::cells::{BARE, Cell, NATIVE};
use crate::spread::Spread;

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
