//! "Did you mean": the names nearest to one that is not there.

/// Up to three of `candidates` that `wanted` may have been meant to be, nearest first: those within
/// a third of its length in edits, or that have it as a part.
#[must_use]
pub fn nearest(wanted: &str, candidates: impl IntoIterator<Item = String>) -> Vec<String> {
    let limit = (wanted.chars().count() / 3).max(1);
    let mut scored: Vec<(usize, String)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = strsim::osa_distance(wanted, &candidate);
            let part = wanted.len() > 2 && candidate.contains(wanted);
            (distance <= limit || part).then_some((distance, candidate))
        })
        .collect();
    scored.sort();
    scored.dedup();
    scored.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_first_and_far_ones_not_at_all() {
        let names = ["shop/cart-0", "shop/cart-1", "obs/prom", "shop/card-0"].map(String::from);
        assert_eq!(
            nearest("shop/cart-O", names.clone()),
            ["shop/cart-0", "shop/cart-1", "shop/card-0"]
        );
        assert_eq!(nearest("prom", names.clone()), ["obs/prom"]);
        assert!(nearest("zzz", names).is_empty());
    }
}
