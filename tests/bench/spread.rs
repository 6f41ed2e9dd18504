//! What many rounds say.

/// A median and what lies around it.
pub(crate) struct Spread {
    lower: f64,
    pub(crate) median: f64,
    upper: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
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

    pub(crate) fn quartiles(&self) -> String {
        format!("{:.2}–{:.2}", self.lower, self.upper)
    }
}
