//! Text as device.toml.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tagpin::decide::{Role, TagRule};
use tagpin::settings::{ModelTags, Settings};

fuzz_target!(|text: &str| {
    let rules = [TagRule::default(); 2];
    let roles = [Role::Good, Role::Defect];
    let _ = Settings::parse(text, "fuzz", ModelTags { names: &["bolt", "nut"], rules: &rules, roles: &roles, categories: None });
});
