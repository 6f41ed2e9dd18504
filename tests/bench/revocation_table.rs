//! What requests take with and without revocation, in rounds that take turns.

use crate::spread::Spread;

/// What is held against each other, in the order of a round.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Cell {
    /// A policy with a limit alone.
    Without,
    /// With `revocation`, and nothing is revoked.
    Empty,
    /// With all of the ledger.
    Full,
}

impl Cell {
    pub(crate) const ALL: [Self; 3] = [Self::Without, Self::Empty, Self::Full];
}

/// Which tokens requests show.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shown {
    /// Each its own: its id is made anew, and its place in an image is in no cache.
    New,
    /// The same few again and again.
    Again,
}

impl Shown {
    pub(crate) const ALL: [Self; 2] = [Self::New, Self::Again];

    /// How many there are of the same.
    pub(crate) const FEW: usize = 64;
}

/// Of each way to show tokens and of each cell, its rounds.
#[derive(Default)]
pub(crate) struct Figures([[Vec<f64>; Cell::ALL.len()]; Shown::ALL.len()]);

impl Figures {
    pub(crate) fn push(&mut self, shown: Shown, cell: Cell, figure: f64) {
        self.0[shown as usize][cell as usize].push(figure);
    }

    /// Prints a table; `unit` says what of what.
    pub(crate) fn print(&self, unit: &str, entries: u64) {
        let rounds = self.0[0][0].len();
        println!(
            "\n| {unit}, {rounds} rounds | no `revocation` | nothing revoked | more | quartiles | \
             {entries} revoked | more | quartiles |"
        );
        println!("|---|--:|--:|--:|--:|--:|--:|--:|");
        for (shown, [without, empty, full]) in Shown::ALL.iter().zip(&self.0) {
            let tokens = match shown {
                Shown::New => "each token new".to_owned(),
                Shown::Again => format!("{} tokens again and again", Shown::FEW),
            };
            let whole = |cell: &[f64]| Spread::of(cell.to_vec()).median;
            let (by_reading, by_many) = (more(empty, without), more(full, empty));
            println!(
                "| {tokens} | {:.2} | {:.2} | {:.2} | {} | {:.2} | {:.2} | {} |",
                whole(without),
                whole(empty),
                by_reading.median,
                by_reading.quartiles(),
                whole(full),
                by_many.median,
                by_many.quartiles(),
            );
        }
    }
}

/// Round by round, what one took more than the other.
fn more(with: &[f64], without: &[f64]) -> Spread {
    Spread::of(with.iter().zip(without).map(|(with, without)| with - without).collect())
}
