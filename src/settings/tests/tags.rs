//! Thresholds, roles, preferences and categories.

use super::*;

#[test]
fn site_thresholds_override_the_bundles() {
    let s = parse("[tags.nut]\nthreshold = 0.9\nreview_low = 0.25\n").unwrap();
    assert_eq!(s.tags[2].rule.threshold, Score::from_probability(0.9).unwrap());
    assert_eq!(s.tags[0].rule, TagRule::default());
    assert!(parse("[tags.nut]\nthreshold = 0.2\nreview_low = 0.3\n").unwrap_err()[0].contains("lower it"));
}

#[test]
fn a_default_for_all_tags_stands_between_the_bundle_and_each_tags_own_table() {
    let s = parse("[tags]\ndefault = { threshold = 0.8, review_low = 0.6 }\nnut = { threshold = 0.9 }\n").unwrap();
    let rule = |threshold, low| TagRule {
        threshold: Score::from_probability(threshold).unwrap(),
        review_low: Score::from_probability(low).unwrap(),
    };
    assert_eq!(s.tags.iter().map(|t| t.rule).collect::<Vec<_>>(), [rule(0.8, 0.6), rule(0.8, 0.6), rule(0.9, 0.6)]);
    // A lower threshold alone takes the band down with it.
    let s = parse("[tags]\ndefault = { threshold = 0.2 }\n").unwrap();
    assert_eq!(s.tags[0].rule, rule(0.2, 0.2));
}

#[test]
fn a_role_is_the_default_action_and_a_list_overrides_it_for_the_tags_that_it_names() {
    let roles = [Role::Good, Role::Defect, Role::Other];
    let actions =
        |text: &str| -> Vec<Action> { parse_with_roles(text, roles).unwrap().tags.iter().map(|t| t.action).collect() };
    use Action::{Accept, Reject, Review};
    assert_eq!(actions(""), [Accept, Reject, Accept]);
    assert_eq!(actions("[decide]\nreject = []\naccept = []\n"), [Accept, Reject, Accept]);
    assert_eq!(actions("[decide]\nreject = [\"nut\"]\n"), [Accept, Reject, Reject]);
    assert_eq!(actions("[decide]\naccept = [\"gear_chipped\"]\nreview = [\"bolt\"]\n"), [Review, Accept, Accept]);
    let twice = parse("[decide]\naccept = [\"nut\"]\nreject = [\"nut\"]\n").unwrap_err();
    assert!(twice[0].contains("stands in two lists or twice"), "{twice:?}");
}

#[test]
fn a_preference_is_top_or_a_list_of_the_models_tags() {
    let s = parse("[decide]\npick = [\"nut\", \"bolt\"]\n").unwrap();
    let places: Vec<Preference> = s.tags.iter().map(|t| t.preference).collect();
    assert_eq!(places, [Preference(1), Preference::UNLISTED, Preference(0)]);
    assert_eq!(parse("[decide]\npick = \"top\"\n").unwrap(), parse("").unwrap());
    assert!(parse("[decide]\npick = \"bottom\"\n").unwrap_err()[0].contains("\"bottom\", expected top"));
    assert!(parse("[decide]\npick = [\"screw\"]\n").unwrap_err()[0].contains("no tag \"screw\""));
    assert!(parse("[decide]\npick = [\"nut\", \"nut\"]\n").unwrap_err()[0].contains("twice"));
}

/// Both keys were taken without a word, and did nothing.
#[test]
fn a_key_that_the_highest_scores_do_not_use_is_warned_of() {
    let part = "[trigger]\nkind = \"barrier\"\nframes = 3\n[decide]\nhysteresis = 0.1\ndwell_ms = 100\n";
    let warned = |text: &str| parse(text).unwrap().warnings(false);
    assert_eq!(warned(part), []);
    let unused = ["hysteresis", "dwell_ms"].map(|key| Warning::NoMeaning { key });
    assert_eq!(warned(&format!("{part}combine = \"best\"\n")), unused);
}

/// A wrong `[tags] default` was told once for each tag of the bundle.
#[test]
fn a_wrong_default_for_all_tags_is_told_once() {
    for wrong in ["threshold = 2.0", "review_low = 0.9"] {
        let told = parse(&format!("[tags]\ndefault = {{ {wrong} }}\n")).unwrap_err();
        assert_eq!(told.len(), 1, "{told:?}");
    }
}

/// Reads settings for seven cats and dogs in three categories, or for a drawn number of tags in
/// many.
fn parse_with_categories(text: &str) -> Result<Settings, Vec<String>> {
    with_categories(|model| Settings::parse(text, "device.toml", model).map_err(|e| e.0))
}

fn with_categories<R>(read: impl FnOnce(ModelTags<'_>) -> R) -> R {
    let names = ["tabby", "tiger cat", "lion", "beagle", "husky", "bus", "bolt", "crane", "cup", "nail"];
    let (rules, roles) = ([TagRule::default(); 10], [Role::Other; 10]);
    let bytes = crate::category::section(
        &[("animal", None), ("cat", Some(0)), ("dog", Some(0)), ("big cat", Some(1)), ("vehicle", None)],
        &[Some(1), Some(1), Some(3), Some(2), Some(2), Some(4), None, None, None, None],
    );
    let categories = Some(Categories::read(&bytes, &names).unwrap());
    read(ModelTags { names: &names, rules: &rules, roles: &roles, categories })
}

#[test]
fn settings_name_categories_wherever_they_name_tags() {
    let text = "\
[decide]
reject = [\"category:dog\"]
pick = [\"category:cat\", \"bus\"]
[tags]
default = { threshold = 0.9 }
\"category:animal\" = { threshold = 0.8, review_low = 0.6 }
[outputs.lamp]
on = [\"category:vehicle\", \"tag:tabby\", \"category:dog\"]
";
    let s = parse_with_categories(text).unwrap();
    let named: Vec<(&str, Vec<u16>)> =
        s.categories.iter().map(|c| (c.name.as_str(), c.leaves.iter().map(|t| t.0).collect())).collect();
    let expected = [
        ("category:dog", vec![3, 4]),
        ("category:cat", vec![0, 1, 2]),
        ("category:animal", vec![0, 1, 2, 3, 4]),
        ("category:vehicle", vec![5]),
    ];
    assert_eq!(named, expected, "each once, behind the model's tags in the order of the file's reading");
    let leaves: Vec<Vec<u16>> = s.leaves().iter().map(|set| set.iter().map(|t| t.0).collect()).collect();
    assert_eq!(leaves, expected.map(|(_, leaves)| leaves));
    assert_eq!(s.tags.len(), 14);
    let score = |p| Score::from_probability(p).unwrap();
    let of = |i: usize| (s.tags[i].rule.threshold, s.tags[i].rule.review_low, s.tags[i].action, s.tags[i].is_category);
    assert_eq!(of(0), (score(0.9), score(0.5), Action::Accept, false));
    assert_eq!(of(10), (Score::HALF, Score::HALF, Action::Reject, true), "the default is for the model's tags");
    assert_eq!(of(12), (score(0.8), score(0.6), Action::Accept, true));
    let preferences: Vec<bool> = s.tags.iter().map(|t| t.preference.is_listed()).collect();
    assert_eq!(preferences.iter().filter(|listed| **listed).count(), 2);
    assert_eq!((s.tags[11].preference, s.tags[5].preference), (Preference(0), Preference(1)));
    assert!(s.tags[13].preference < s.tags[10].preference && s.tags[13].preference > Preference::UNLISTED);
    let Drive::Calls(calls) = s.outputs[0].drive else { panic!("{:?}", s.outputs[0].drive) };
    assert_eq!(calls.tags.iter().map(|t| t.0).collect::<Vec<_>>(), [0, 10, 13]);
    assert_eq!(s.names(["a", "b"].into_iter()).nth(2), Some("category:dog"));
    assert!(parse_with_categories("").unwrap().categories.is_empty(), "none that is not named");
}

/// What people set for a category is for its place behind the model's tags.
#[cfg(feature = "site")]
#[test]
fn a_rule_that_people_set_for_a_category_is_that_categorys() {
    let bundle = "ab".repeat(32);
    let text = format!("bundle_sha256 = \"{bundle}\"\n[tags.\"category:cat\"]\nthreshold = 0.75\nreview_low = 0.25\n");
    let rules = with_categories(|model| {
        let settings =
            Settings::parse("[decide]\nreject = [\"category:dog\", \"category:cat\"]\n", "device.toml", model).unwrap();
        Overrides::parse(&text, "overrides.toml", &settings, model, &bundle).unwrap().unwrap().rules
    });
    let set: Vec<usize> = rules.iter().enumerate().filter(|(_, rule)| rule.is_some()).map(|(i, _)| i).collect();
    assert_eq!((rules.len(), set), (12, vec![11]));
}

/// A model of 1000 tags listed its first eight, whatever was meant.
#[test]
fn a_category_that_is_none_is_refused_by_name_with_those_near_it() {
    let refused = |text: &str, want: &str| {
        let problems = parse_with_categories(text).unwrap_err();
        assert!(problems.iter().any(|p| p.contains(want)), "{want} is not among {problems:?}");
    };
    let near = "device.toml:2:11: decide: the model has no category \"cats\"; it has \"animal\", \"cat\", ";
    refused("[decide]\nreject = [\"category:cats\"]", near);
    refused("[outputs.a]\non = [\"category:\"]", "the model has no category \"\"");
    refused("[tags.\"category:cat \"]\nthreshold = 0.5", "the model has no category \"cat \"");
    // By a slip of the hand, by a word, and by a tag that is a category.
    refused("[decide]\nreject = [\"tabyb\"]", "no tag \"tabyb\"; near it: \"tabby\"");
    refused("[decide]\nreject = [\"tiger\"]", "no tag \"tiger\"; near it: \"tiger cat\"");
    refused("[outputs.a]\non = [\"tag:dog\"]", "a category of that name is written \"category:dog\"");
    refused("[outputs.a]\non = [\"tag:category:dog\"]", "no tag \"category:dog\"");
    refused("[outputs.a]\non = [\"dog\"]", "\"category:NAME\"");
    refused("[decide]\nreject = [\"category:dog\", \"category:dog\"]", "stands in two lists or twice");
    refused("[decide]\npick = [\"category:dog\", \"category:dog\"]", "stands in pick twice");
    assert!(parse_with_categories("[decide]\nreject = [\"category:dog\"]").is_ok());
    let problems = parse("[decide]\nreject = [\"category:cat\"]").unwrap_err();
    assert!(problems[0].contains("the model has no categories, so none is called \"cat\""), "{problems:?}");
}

/// Every table for tags has [`crate::MAX_TAGS`] places, so tags and named categories share them.
#[test]
fn as_many_categories_may_be_named_as_the_model_leaves_room_for() {
    let (tags, categories) = (1000, 30);
    let names: Vec<String> = (0..tags).map(|i| format!("t{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let groups: Vec<String> = (0..categories).map(|i| format!("c{i}")).collect();
    let all: Vec<(&str, Option<u16>)> = groups.iter().map(|g| (g.as_str(), None)).collect();
    let places: Vec<Option<u16>> = (0..tags).map(|t| Some((t % categories) as u16)).collect();
    let bytes = crate::category::section(&all, &places);
    let categories = Some(Categories::read(&bytes, &names).unwrap());
    let (rules, roles) = (vec![TagRule::default(); tags], vec![Role::Other; tags]);
    let model = ModelTags { names: &names, rules: &rules, roles: &roles, categories };
    let text = |n: usize| {
        let list: Vec<String> = (0..n).map(|i| format!("\"category:c{i}\"")).collect();
        format!("[decide]\nreview = [{}]", list.join(", "))
    };
    let named = Settings::parse(&text(24), "device.toml", model).unwrap();
    assert_eq!(named.tags.len(), crate::MAX_TAGS);
    assert!(crate::decide::Decider::new(Task::Multiclass, &named.tags, named.policy).is_ok());
    let problems = Settings::parse(&text(25), "device.toml", model).unwrap_err().0;
    let want = "category \"c24\" is one too many: the model's 1000 tags and the categories that are named come to 1024";
    assert!(problems.len() == 1 && problems[0].contains(want), "{problems:?}");
}
