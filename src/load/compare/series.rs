//! What a row of slices says: medians and ranges, and ratios of slices that ran side by side.

use serde::Serialize;

/// Median, least and most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Range {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Option<Range> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Range { median: quantile(&sorted, 0.5)?, min: *sorted.first()?, max: *sorted.last()? })
    }

    /// `ones` over `bases`, slice by slice: what slowed a round slowed both.
    pub fn of_ratios(ones: &[f64], bases: &[f64]) -> Option<Range> {
        let ratios: Vec<f64> = ones.iter().zip(bases).filter(|(_, base)| **base > 0.0).map(|(a, b)| a / b).collect();
        Range::of(&ratios)
    }
}

/// Half the interquartile range, as a share of the median: how far the slices still disagree.
pub fn spread(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (quantile(&sorted, 0.25), quantile(&sorted, 0.5), quantile(&sorted, 0.75)) {
        (Some(low), Some(median), Some(high)) if median > 0.0 => (high - low) / 2.0 / median,
        _ => f64::INFINITY,
    }
}

/// Between the two values beside it, linearly.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (*sorted.get(at.floor() as usize)?, *sorted.get(at.ceil() as usize)?);
    Some(below + (above - below) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_middle_of_an_even_row_and_none_of_an_empty_one() {
        assert_eq!(Range::of(&[3.0, 1.0, 2.0, 10.0]), Some(Range { median: 2.5, min: 1.0, max: 10.0 }));
        assert_eq!(Range::of(&[]), None);
    }

    #[test]
    fn ratios_are_of_the_same_round_so_that_a_slow_round_does_not_show() {
        let ratios = Range::of_ratios(&[20.0, 60.0, 22.0], &[10.0, 30.0, 11.0]).unwrap();
        assert_eq!(ratios, Range { median: 2.0, min: 2.0, max: 2.0 });
        assert_eq!(Range::of_ratios(&[1.0], &[0.0]), None, "nothing is a multiple of nothing");
    }

    #[test]
    fn one_outlier_does_not_widen_the_spread_and_disagreement_does() {
        assert!(spread(&[100.0, 100.0, 101.0, 100.0, 500.0]) < 0.01);
        assert!(spread(&[50.0, 100.0, 150.0, 60.0, 140.0]) > 0.2);
        assert_eq!(spread(&[]), f64::INFINITY);
    }
}
