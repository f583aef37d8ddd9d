//! Roles of tags: which stand for good parts and which for defects, as a person states them in
//! about.toml or by flags.
//!
//! A tag without a stated role is `other`. The tag's name is not interpreted.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tagpin::decide::Role;

/// Tags with a role, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Tags of parts as they should be.
    #[serde(default)]
    pub good: Vec<String>,
    /// Tags of defects.
    #[serde(default)]
    pub defects: Vec<String>,
}

/// Roles on the command line.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct RoleFlags {
    /// A tag that stands for a defect: the board rejects it unless device.toml says otherwise. May
    /// stand several times.
    #[arg(long, value_name = "TAG")]
    pub defect: Vec<String>,
    /// A tag that stands for a part as it should be. May stand several times.
    #[arg(long, value_name = "TAG")]
    pub good: Vec<String>,
}

impl RoleFlags {
    /// The roles that they state, of a model or dataset with `tags`.
    pub fn roles(&self, tags: &[String]) -> Result<Roles> {
        Roles { good: self.good.clone(), defects: self.defect.clone() }.of(tags)
    }
}

impl Roles {
    /// These roles, if they are of `tags` and each tag has one at most; sorted.
    pub fn of(mut self, tags: &[String]) -> Result<Self> {
        for (list, role) in [(&mut self.good, Role::Good), (&mut self.defects, Role::Defect)] {
            list.sort();
            list.dedup();
            if let Some(unknown) = list.iter().find(|t| !tags.contains(t)) {
                bail!("role {}: there is no tag \"{unknown}\"; the tags are {}", role.name(), tags.join(", "));
            }
        }
        match self.good.iter().find(|t| self.defects.contains(t)) {
            Some(both) => bail!("tag \"{both}\" has two roles, good and defect; give it one"),
            None => Ok(self),
        }
    }

    /// Merges two statements. Fails if one calls good what the other calls a defect.
    pub fn and(&self, more: Self, tags: &[String]) -> Result<Self> {
        let all = |a: &[String], b: Vec<String>| a.iter().cloned().chain(b).collect();
        Self { good: all(&self.good, more.good), defects: all(&self.defects, more.defects) }.of(tags)
    }

    /// These roles, replaced by those of `over` for the tags that it names.
    pub fn overridden(mut self, over: Self) -> Self {
        for list in [&mut self.good, &mut self.defects] {
            list.retain(|t| !over.good.contains(t) && !over.defects.contains(t));
        }
        self.good.extend(over.good);
        self.defects.extend(over.defects);
        self.good.sort();
        self.defects.sort();
        self
    }

    /// One a tag, in the order of `tags`.
    pub fn in_order(&self, tags: &[String]) -> Vec<Role> {
        let role = |tag: &String| match tag {
            _ if self.defects.contains(tag) => Role::Defect,
            _ if self.good.contains(tag) => Role::Good,
            _ => Role::Other,
        };
        tags.iter().map(role).collect()
    }

    /// Whether any role was stated.
    pub fn stated(&self) -> bool {
        !self.good.is_empty() || !self.defects.is_empty()
    }
}

impl std::fmt::Display for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lists = [("defect", &self.defects), ("good", &self.good)];
        let said: Vec<String> =
            lists.iter().filter(|(_, l)| !l.is_empty()).map(|(role, l)| format!("{role}: {}", l.join(", "))).collect();
        if said.is_empty() { f.write_str("not stated") } else { f.write_str(&said.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|t| t.to_string()).collect()
    }

    fn roles(good: &[&str], defects: &[&str]) -> Roles {
        Roles { good: names(good), defects: names(defects) }
    }

    #[test]
    fn roles_are_of_the_tags_there_are_and_one_a_tag() {
        let tags = names(&["bolt", "crack", "empty"]);
        let both = roles(&["bolt", "bolt"], &["crack"]).of(&tags).unwrap();
        assert_eq!(both.in_order(&tags), [Role::Good, Role::Defect, Role::Other]);
        assert_eq!(both.to_string(), "defect: crack; good: bolt");
        assert_eq!(Roles::default().to_string(), "not stated");
        let unknown = roles(&[], &["nut"]).of(&tags).unwrap_err().to_string();
        assert!(unknown.contains("\"nut\"") && unknown.contains("bolt, crack, empty"), "{unknown}");
        let twice = both.and(roles(&[], &["bolt"]), &tags).unwrap_err().to_string();
        assert!(twice.contains("\"bolt\" has two roles"), "{twice}");
        assert_eq!(both.and(roles(&["empty"], &["crack"]), &tags).unwrap(), roles(&["bolt", "empty"], &["crack"]));
        assert_eq!(both.overridden(roles(&[], &["bolt"])), roles(&[], &["bolt", "crack"]));
    }
}
