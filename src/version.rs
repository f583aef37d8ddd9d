//! What `--version` tells: which release, from which commit, with which features.

/// `0.1.0 (commit 0f49d43a2b1c, features line site)`: `release`, then what is known of the build.
///
/// `commit` is empty where it was not built in a clone of the repository; `features` says of each
/// by name whether it was built in.
pub fn described(release: &str, commit: &str, features: &[(&str, bool)]) -> String {
    let commit = if commit.is_empty() { "unknown" } else { commit };
    let built_in: String = features.iter().filter(|(_, there)| *there).map(|(name, _)| format!(" {name}")).collect();
    let built_in = if built_in.is_empty() { " none".into() } else { built_in };
    format!("{release} (commit {commit}, features{built_in})")
}

#[cfg(test)]
mod tests {
    use super::described;

    #[test]
    fn a_build_outside_a_clone_or_without_features_says_so() {
        assert_eq!(
            described("1.2.3", "abc-dirty", &[("a", true), ("b", false), ("c", true)]),
            "1.2.3 (commit abc-dirty, features a c)"
        );
        assert_eq!(described("1.2.3", "", &[("a", false)]), "1.2.3 (commit unknown, features none)");
    }
}
