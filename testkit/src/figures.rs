//! Figures of a benchmark: distributions, and what they were measured on.

use std::fmt;

/// A set of measurements in one unit.
#[derive(Debug, Clone)]
pub struct Distribution {
    sorted: Vec<f64>,
}

impl Distribution {
    /// From measurements in any order.
    #[must_use]
    pub fn of(measured: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = measured.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    /// The smallest measurement that at least this share (0 to 1) do not exceed.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let count = self.sorted.len();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a fraction of a small count"
        )]
        let rank = (share * count as f64).ceil() as usize;
        self.sorted.get(rank.clamp(1, count.max(1)) - 1).copied().unwrap_or(f64::NAN)
    }

    /// The heads of the columns that [`fmt::Display`] fills.
    #[must_use]
    pub fn heads() -> String {
        let heads = ["min", "p50", "p90", "p99", "max"].map(|head| format!("{head:>9}"));
        format!("{}{:>7}", heads.concat(), "runs")
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = f.precision().unwrap_or(2);
        for share in [0.0, 0.5, 0.9, 0.99, 1.0] {
            write!(f, "{:>9.precision$}", self.quantile(share))?;
        }
        write!(f, "{:>7}", self.sorted.len())
    }
}

/// What the figures were measured on, in one line.
#[must_use]
pub fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "?".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib / (1024 * 1024));
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(1).collect();
    format!(
        "{processor}, {cores} cores, {memory} GiB, Linux {}, load {} at the start",
        kernel.trim(),
        load.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measurements_that_were_made() {
        let ten = Distribution::of((1..=10).rev().map(f64::from));
        assert_eq!([0.0, 0.5, 0.9, 0.99, 1.0].map(|share| ten.quantile(share)), [1.0, 5.0, 9.0, 10.0, 10.0]);
        assert_eq!(Distribution::of([7.0]).quantile(0.5), 7.0);
        assert!(Distribution::of([]).quantile(0.5).is_nan());
    }
}
