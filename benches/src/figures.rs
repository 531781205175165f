//! Many measurements of one thing, and the few numbers that people compare.

use std::time::Duration;

/// Measurements in order of size.
pub(crate) struct Figures(Vec<Duration>);

impl Figures {
    /// # Panics
    /// When nothing was measured.
    pub(crate) fn of(mut measured: Vec<Duration>) -> Figures {
        assert!(!measured.is_empty(), "nothing was measured");
        measured.sort_unstable();
        Figures(measured)
    }

    pub(crate) fn median(&self) -> Duration {
        self.share(50)
    }

    /// What 99 of 100 do not exceed; with fewer than 100 measurements, the longest.
    pub(crate) fn p99(&self) -> Duration {
        self.share(99)
    }

    pub(crate) fn longest(&self) -> Duration {
        self.share(100)
    }

    fn share(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }

    /// A line of a table: `name`, then median, p99 and longest in milliseconds.
    pub(crate) fn row(&self, name: &str) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        format!("{name:44} {:8.0} {:8.0} {:8.0}", ms(self.median()), ms(self.p99()), ms(self.longest()))
    }

    /// The head of such a table.
    pub(crate) fn head(name: &str) -> String {
        format!("{name:44} {:>8} {:>8} {:>8}", "median", "p99", "longest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_of_measurements_that_were_made() {
        let figures = Figures::of((1..=200).rev().map(Duration::from_millis).collect());
        let found = [figures.median(), figures.p99(), figures.longest()].map(|time| time.as_millis());
        assert_eq!(found, [100, 198, 200]);
        let one = Figures::of(vec![Duration::from_millis(7)]);
        assert_eq!([one.median(), one.p99()].map(|time| time.as_millis()), [7, 7]);
    }
}
