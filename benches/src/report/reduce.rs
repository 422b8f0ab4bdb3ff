//! From rounds to one number, and from many ratios to one.

/// What stands for all rounds of a participant in a cell: the lower quartile. Disturbances only
/// ever add to a processor time, so the lower half is nearer to the truth; the minimum is a
/// matter of luck.
///
/// `None` where there is no round, or none that found a time.
pub fn lower_quartile(rounds: &[f64]) -> Option<f64> {
    quantile(rounds, 0.25)
}

/// How far apart the middle half of the rounds lies: the upper quartile ÷ the lower one.
pub fn spread(rounds: &[f64]) -> Option<f64> {
    Some(quantile(rounds, 0.75)? / quantile(rounds, 0.25)?)
}

/// The figure below which this share of the rounds is.
pub fn quantile(rounds: &[f64], share: f64) -> Option<f64> {
    let mut rounds: Vec<f64> = rounds.iter().copied().filter(|ns| is_figure(*ns)).collect();
    rounds.sort_by(f64::total_cmp);
    let last = rounds.len().checked_sub(1)?;
    let position = last as f64 * share;
    let (below, part) = (position.floor() as usize, position.fract());
    let above = rounds[(below + 1).min(last)];
    Some(rounds[below] + part * (above - rounds[below]))
}

/// The mean of ratios: it is the same whichever way round the ratios are taken.
pub fn geometric_mean(ratios: impl IntoIterator<Item = f64>) -> Option<f64> {
    let logarithms = ratios.into_iter().map(f64::ln);
    let (sum, count) = logarithms.fold((0.0, 0), |(sum, count), ln| (sum + ln, count + 1));
    (count > 0).then(|| (sum / f64::from(count)).exp())
}

fn is_figure(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_quartile_ignores_the_slow_rounds() {
        assert_eq!(lower_quartile(&[900.0, 20.0, 10.0, 30.0, 40.0]), Some(20.0));
        assert_eq!(lower_quartile(&[10.0, 20.0]), Some(12.5));
        assert_eq!(lower_quartile(&[7.0]), Some(7.0));
    }

    #[test]
    fn two_modes_are_a_spread_and_one_slow_round_is_none() {
        let two_modes = [10.0, 10.0, 10.0, 15.0, 15.0, 15.0, 15.0];
        assert_eq!(spread(&two_modes), Some(1.5));
        assert_eq!(
            spread(&[10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 90.0]),
            Some(1.0)
        );
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn rounds_that_found_nothing_do_not_count() {
        assert_eq!(lower_quartile(&[]), None);
        assert_eq!(lower_quartile(&[0.0, f64::NAN]), None);
        assert_eq!(lower_quartile(&[0.0, 5.0]), Some(5.0));
    }

    #[test]
    fn the_geometric_mean_of_a_ratio_and_its_reciprocal_is_one() {
        let mean = geometric_mean([4.0, 0.25]).unwrap();
        assert!((mean - 1.0).abs() < 1e-12);
        assert_eq!(geometric_mean([]), None);
    }
}
