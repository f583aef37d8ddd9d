//! `[keep]`: images of parts that are kept on disk, which and how long.

use super::reader::Table;
use crate::head::Score;
use crate::ring::{Kind, Limits};
use std::path::PathBuf;

/// Which images are kept, where and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// The folder.
    pub folder: PathBuf,
    /// What it may hold. A kind whose quota is 0 is not kept.
    pub limits: Limits,
    /// Bytes that may be written in a day.
    pub bytes_per_day: u64,
    /// How near its threshold a score is uncertain.
    pub near: Score,
    /// One part in this number is drawn; 0: none.
    pub one_in: u64,
    /// What parts are drawn by; `None`: by another number with each run.
    pub seed: Option<u64>,
}

impl Keeping {
    /// Whether images of a kind are kept.
    pub fn keeps(&self, kind: Kind) -> bool {
        self.limits.quotas[kind as usize] > 0 && (kind != Kind::Drawn || self.one_in > 0)
    }
}

/// Reads the table; `None` where there is none, or it states no folder.
pub(super) fn keep(t: &mut Table<'_>) -> Option<Keeping> {
    /// Far above any disk, and far below what 64 bits count.
    const MOST_MB: i64 = 1_000_000_000;
    let mut megabytes = |key: &str, default, least| t.integer(key, default, least..=MOST_MB) as u64 * 1_000_000;
    let (max_bytes, free_bytes) = (megabytes("max_mb", 4000, 1), megabytes("free_mb", 500, 0));
    let bytes_per_day = megabytes("max_mb_per_day", 800, 1);
    let quotas = Kind::ALL.map(|kind| match kind {
        Kind::Drawn => megabytes("drawn_mb", 1000, 0),
        Kind::Foreign => megabytes("foreign_mb", 500, 0),
        Kind::Disagreeing => megabytes("disagreeing_mb", 500, 0),
        Kind::Uncertain => megabytes("uncertain_mb", 1000, 0),
        Kind::Rejected => megabytes("rejected_mb", 1000, 0),
    });
    let days = t.integer("days", 30, 1..=36_500) as u32;
    // The range is that of a probability.
    let near = Score::from_probability(t.real("near", 0.1, 0.0..=1.0) as f32).unwrap_or_default();
    let one_in = t.integer("one_in", 0, 0..=i64::MAX) as u64;
    let seed = t.has("seed").then(|| t.integer("seed", 0, 0..=i64::MAX) as u64);
    let folder = super::site::folder(t);
    let limits = Limits { max_bytes, free_bytes, days, quotas };
    let keeping = folder.map(|folder| Keeping { folder, limits, bytes_per_day, near, one_in, seed });
    if keeping.as_ref().is_some_and(|keeping| !Kind::ALL.into_iter().any(|kind| keeping.keeps(kind))) {
        t.problem("folder", "nothing is kept in it: every kind's megabytes are 0; raise one or remove [keep]".into());
    }
    keeping
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Role, TagRule};
    use crate::settings::{EXAMPLE, ModelTags, Settings};

    fn parse(text: &str) -> Result<Option<Keeping>, String> {
        let tags = ModelTags { names: &["bolt"], rules: &[TagRule::default()], roles: &[Role::Good], categories: None };
        let parsed = Settings::parse(text, "test", tags);
        parsed.map(|s| s.site.keep).map_err(|e| e.0.join("\n"))
    }

    const MB: u64 = 1_000_000;

    #[test]
    fn nothing_is_kept_without_a_folder_and_with_one_less_than_a_gigabyte_a_day() {
        assert_eq!(parse(""), Ok(None));
        let usual = parse("[keep]\nfolder = \"kept\"\n").unwrap().unwrap();
        assert!(usual.bytes_per_day < 1000 * MB && usual.limits.days == 30 && usual.limits.free_bytes == 500 * MB);
        let kept: Vec<&str> = Kind::ALL.into_iter().filter(|k| usual.keeps(*k)).map(Kind::name).collect();
        assert_eq!(kept, ["foreign", "disagreeing", "uncertain", "rejected"]);
        // Every key of the example, as it stands there: its default.
        let table = EXAMPLE.split("# [keep]").nth(1).unwrap().split("\n# [recipes").next().unwrap();
        let lines: Vec<&str> = table.lines().skip(1).filter_map(|l| l.strip_prefix("# ")).collect();
        assert_eq!(lines.len(), 13);
        let example = parse(&format!("[keep]\n{}", lines.join("\n"))).unwrap().unwrap();
        assert_eq!(example, Keeping { folder: "/var/lib/tagpin/kept".into(), seed: Some(1), ..usual });
    }

    #[test]
    fn each_kind_has_its_megabytes_and_a_kind_without_any_is_not_kept() {
        for kind in Kind::ALL {
            let name = kind.name();
            let one = |mb| parse(&format!("[keep]\nfolder = \"kept\"\none_in = 3\n{name}_mb = {mb}\n")).unwrap().unwrap();
            assert_eq!((one(7).limits.quotas[kind as usize], one(7).keeps(kind), one(0).keeps(kind)), (7 * MB, true, false));
        }
        let none: String = Kind::ALL.iter().map(|kind| format!("{}_mb = 0\n", kind.name())).collect();
        for (wrong, why) in [
            (none.as_str(), "nothing is kept in it: every kind's megabytes are 0"),
            ("near = 1.5\n", "near: 1.5, expected 0..=1"),
            ("days = 0\n", "days: 0, expected 1..=36500"),
            ("max_mb = 0\n", "max_mb: 0, expected 1..=1000000000"),
            ("one_in = -1\n", "one_in: -1, expected 0..="),
            ("kinds = []\n", "unknown key \"keep.kinds\""),
        ] {
            let told = parse(&format!("[keep]\nfolder = \"kept\"\n{wrong}")).expect_err(wrong);
            assert!(told.contains(why), "{wrong}: {told}");
        }
        assert!(parse("[keep]\nfolder = \"\"\n").unwrap_err().contains("folder: the path is empty"));
    }
}
