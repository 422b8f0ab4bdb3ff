//! Where we leave asyncio on purpose: names, and how often each was met.

use std::collections::{BTreeMap, BTreeSet};

/// A deliberate difference: the first column of its row in `docs/asyncio-map.md`.
pub(crate) type Rule = &'static str;

/// The rules that one script has met.
#[derive(Default)]
pub(crate) struct Fired(BTreeSet<Rule>);

impl Fired {
    pub(crate) fn note(&mut self, rule: Rule) {
        self.0.insert(rule);
    }
}

/// In how many scripts each rule was met.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<Rule, usize>);

impl Tally {
    pub(crate) fn add(&mut self, fired: Fired) {
        for rule in fired.0 {
            *self.0.entry(rule).or_default() += 1;
        }
    }

    /// Says how often each rule was met. One that is met often hides what it should not: it has
    /// to be split. In a few scripts it may be met often by chance.
    pub(crate) fn report(&self, scripts: usize) {
        let share = scripts as f64 / 20.0;
        let bound = (share + 3.0 * share.sqrt()) as usize;
        for (rule, n) in &self.0 {
            println!("  {n:6} scripts: {rule}");
        }
        let too_often: Vec<_> = self.0.iter().filter(|&(_, n)| *n > bound).collect();
        assert!(
            too_often.is_empty(),
            "rules met in more than 5 % of {scripts} scripts: {too_often:?}"
        );
    }
}

#[test]
fn every_rule_is_a_row_of_the_map() {
    let map = include_str!("../../docs/asyncio-map.md");
    for rule in [crate::reader::RULES, crate::connections::RULES].concat() {
        assert!(map.contains(&format!("| {rule} |")), "no row for {rule:?}");
    }
}
