//! A histogram of whole numbers.

/// Counts values by their upper bounds.
#[derive(Debug, Clone)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what exceeds the last.
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    /// `bounds` ascend, and belong to the values below them.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0 }
    }

    pub fn record(&mut self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds the values of another with the same bounds.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Each bound with the number of values between it and the one before.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bounds.iter().copied().zip(self.counts.iter().copied())
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_values_below_it_and_all_values_count() {
        let mut histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, u64::MAX] {
            histogram.record(value);
        }
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(10, 2), (20, 2)]);
        assert_eq!((histogram.count(), histogram.sum()), (6, u64::MAX));
    }

    #[test]
    fn merged_histograms_have_the_values_of_both() {
        let [mut one, mut other] = [Histogram::new(&[10]), Histogram::new(&[10])];
        one.record(5);
        other.record(7);
        other.record(70);
        one.merge(&other);
        assert_eq!((one.buckets().next(), one.count(), one.sum()), (Some((10, 2)), 3, 82));
    }
}
