//! The figures, as Markdown.

use crate::global_cells::{
    BARE, Cell, LEASED, LEASED_FLOOD, LEASED_KEYS, LOCAL, LOCAL_FLOOD, LOCAL_KEYS, NATIVE,
};
use crate::spread::Spread;

/// Of what processes CPU time is told.
pub(crate) const PROCESSES: [&str; 4] = ["Envoy", "host", "Redis", "yes"];

/// What one turn of one cell came to, for each request.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Microseconds of CPU time of each of the [`PROCESSES`].
    pub(crate) us: [f64; PROCESSES.len()],
    /// Asks that the host had.
    pub(crate) asks: f64,
}

impl Sample {
    fn whole(&self) -> f64 {
        self.us.iter().sum()
    }
}

/// Prints a row for each cell. `samples` holds each cell's rounds, in the same order.
pub(crate) fn print(cells: &[Cell], samples: &[Vec<Sample>]) {
    let bare = &samples[BARE];
    let heads = PROCESSES.map(|process| format!("{process} | ")).concat();
    println!(
        "| CPU µs per request, {} rounds | whole | added | quartiles | {heads}asks per request |",
        bare.len()
    );
    println!("|---|--:|--:|--:|{}--:|", "--:|".repeat(PROCESSES.len()));
    for (place, (cell, rounds)) in cells.iter().zip(samples).enumerate() {
        let whole = Spread::of(rounds.iter().map(Sample::whole).collect()).median;
        print!("| {} | {whole:.2} |", cell.label);
        if place == BARE {
            println!("{}", " |".repeat(3 + PROCESSES.len()));
            continue;
        }
        let adds = added(rounds, bare, Sample::whole);
        print!(" {:.2} | {} |", adds.median, adds.quartiles());
        for process in 0..PROCESSES.len() {
            print!(" {:.2} |", added(rounds, bare, |sample| sample.us[process]).median);
        }
        let asks = Spread::of(rounds.iter().map(|sample| sample.asks).collect()).median;
        println!(" {asks:.4} |");
    }
    println!();
    let adds = |place: usize| added(&samples[place], bare, Sample::whole).median;
    for (what, of, to) in [
        ("a hot key, leased, to the same local", LEASED, LOCAL),
        ("10,000 keys, leased, to the same local", LEASED_KEYS, LOCAL_KEYS),
        ("asking for each request, to a leased hot key", NATIVE, LEASED),
        ("asking for each request, to 10,000 leased keys", NATIVE, LEASED_KEYS),
    ] {
        println!("- {what}: × {:.2}", adds(of) / adds(to));
    }
    // Refused requests cost less than those that go on: nothing is added that could be compared.
    let whole =
        |place: usize| Spread::of(samples[place].iter().map(Sample::whole).collect()).median;
    let times = whole(LEASED_FLOOD) / whole(LOCAL_FLOOD);
    println!("- a denied flood, leased, to the same local, of the whole: × {times:.2}");
}

/// Round by round, what a cell took more than the bare one.
fn added(rounds: &[Sample], bare: &[Sample], of: impl Fn(&Sample) -> f64) -> Spread {
    Spread::of(rounds.iter().zip(bare).map(|(with, without)| of(with) - of(without)).collect())
}
