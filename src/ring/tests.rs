//! The ring against a list that is looked through from its beginning, and against everything that
//! somebody may put in its way.

use super::*;
use crate::random::{Random, drawn_cases};
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tagpin-ring-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

const ROOMY: Limits = Limits { max_bytes: 1 << 40, free_bytes: 0, days: 30, quotas: [1 << 40; 5] };
const NOW: u64 = 1_795_673_066;

fn image<'a>(kind: Kind, folder: &'a str, part: u64, jpeg: &'a [u8]) -> Image<'a> {
    Image { kind, folder, part, wall: Some(NOW * 1_000_000), jpeg, json: b"{}" }
}

/// Every file below a folder, by its path there, and its length.
fn files(folder: &Path) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            let inner = files(&entry.path()).into_iter();
            all.extend(inner.map(|(path, len)| (format!("{name}/{path}"), len)));
        } else if name != LOCK {
            all.insert(name, entry.metadata().unwrap().len());
        }
    }
    all
}

/// Parts whose image is there whole: with what is known of it, and nothing unfinished beside.
fn parts(folder: &Path) -> BTreeSet<u64> {
    let all = files(folder);
    let part = |path: &String| path.strip_suffix(".jpg")?.rsplit_once("-part")?.1.parse().ok();
    for path in all.keys().filter(|path| path.contains("tagpin-")) {
        let stem = path.strip_suffix(".jpg").or(path.strip_suffix(".json")).unwrap_or_else(|| panic!("{path}"));
        assert!(all.contains_key(&format!("{stem}.jpg")) && all.contains_key(&format!("{stem}.json")), "{path}");
    }
    all.keys().filter_map(part).collect()
}

/// What the ring should hold: all of it in the order in which it came.
#[derive(Default)]
struct Naive(Vec<(u64, Kind, u64, Option<u64>)>);

impl Naive {
    fn bytes(&self, of: Option<Kind>) -> u64 {
        self.0.iter().filter(|(_, kind, ..)| of.is_none_or(|of| of == *kind)).map(|(.., bytes, _)| bytes).sum()
    }

    fn drop_first(&mut self, of: Option<Kind>) {
        let at = self.0.iter().position(|(_, kind, ..)| of.is_none_or(|of| of == *kind)).unwrap();
        self.0.remove(at);
    }

    fn keep(&mut self, limits: Limits, part: u64, kind: Kind, len: u64, wall: Option<u64>) -> bool {
        // Both files, in whole blocks of 4 KiB.
        let bytes = len.div_ceil(4096) * 4096 + 4096;
        let quota = limits.quotas[Kind::ALL.iter().position(|k| *k == kind).unwrap()];
        if bytes > quota || bytes > limits.max_bytes {
            return false;
        }
        while self.bytes(Some(kind)) + bytes > quota {
            self.drop_first(Some(kind));
        }
        while self.bytes(None) + bytes > limits.max_bytes {
            self.drop_first(None);
        }
        self.0.push((part, kind, bytes, wall));
        true
    }

    /// An image's age is that of its time; without a time, or with one to come, that of the oldest
    /// known time behind it.
    fn expire(&mut self, now: u64, days: u32) {
        let known = |wall: Option<u64>| wall.filter(|wall| *wall <= now);
        let behind = |at: usize| self.0[at..].iter().filter_map(|(.., wall)| known(*wall)).min().unwrap_or(now);
        let old = |at: usize| now - known(self.0[at].3).unwrap_or_else(|| behind(at)) >= u64::from(days) * 86_400;
        let kept: Vec<_> = (0..self.0.len()).filter(|at| !old(*at)).map(|at| self.0[at]).collect();
        self.0 = kept;
    }
}

#[test]
fn the_folder_holds_what_a_list_would_within_its_cap_quotas_and_days_over_any_restart() {
    let (seed, cases) = drawn_cases(24);
    for case in 0..cases {
        let folder = scratch(&format!("drawn-{case}"));
        let mut random = Random::new(seed, case);
        let mut below = |n: u64| random.next() % n;
        let quotas = std::array::from_fn(|_| below(9) * 8192);
        let limits = Limits { max_bytes: 8192 * (1 + below(25)), free_bytes: 0, days: 1 + below(40) as u32, quotas };
        let (mut ring, mut naive) = (Ring::open(&folder, limits).unwrap(), Naive::default());
        let mut now = NOW;
        let jpeg = vec![7; 40_000];
        for part in 1..=120 {
            // Days go by, and sometimes somebody sets the clock back.
            now = if below(12) == 0 { now - below(20 * 86_400) } else { now + below(2 * 86_400) };
            let wall = Some(now).filter(|_| below(8) > 0);
            let kind = Kind::ALL[below(5) as usize];
            let len = 1 + below(30_000);
            let tag = ["bolt", "_foreign", "a%2Fb"][below(3) as usize];
            let wanted = Image {
                kind,
                folder: tag,
                part,
                wall: wall.map(|s| s * 1_000_000),
                jpeg: &jpeg[..len as usize],
                json: b"{}",
            };
            let kept = ring.keep(&wanted);
            assert_eq!(kept.is_ok(), naive.keep(limits, part, kind, len, wall), "case {case} part {part}: {kept:?}");
            match below(10) {
                0 => {
                    drop(ring);
                    ring = Ring::open(&folder, limits).unwrap();
                }
                1 | 2 => {
                    ring.tend(Some(now * 1_000_000)).unwrap();
                    naive.expire(now, limits.days);
                }
                3 => ring.tend(None).unwrap(),
                _ => {}
            }
            let expected: BTreeSet<u64> = naive.0.iter().map(|(part, ..)| *part).collect();
            assert_eq!(parts(&folder), expected, "case {case} part {part}");
            let bytes: u64 = files(&folder).values().map(|len| len.div_ceil(4096) * 4096).sum();
            assert_eq!(ring.holds(), (expected.len(), bytes), "case {case} part {part}");
            assert!(bytes <= limits.max_bytes, "case {case}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn one_run_writes_a_folder_and_its_end_frees_it() {
    let folder = scratch("one");
    let first = Ring::open(&folder, ROOMY).unwrap();
    let why = Ring::open(&folder, ROOMY).unwrap_err().to_string();
    assert!(why.ends_with("is written by another run; stop it, or give this line a folder of its own"), "{why}");
    assert!(probe(&folder, ROOMY).unwrap().contains(", written by a run now, 0 images of 0 MB"));
    let other = folder.join("other");
    std::fs::create_dir(&other).unwrap();
    assert!(Ring::open(&other, ROOMY).is_ok(), "another folder is free");
    drop(first);
    assert!(Ring::open(&folder, ROOMY).is_ok());
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A run in another place of the world has the folder's name now: a folder that was moved away and
/// made anew is taken anew, and the one that was moved is left alone.
#[test]
fn a_folder_that_is_removed_costs_images_until_it_is_back_and_is_never_made() {
    let folder = scratch("removed");
    let path = folder.join("kept");
    let missing = Ring::open(&path, ROOMY).unwrap_err().to_string();
    assert!(missing.contains("kept does not exist; make it and give it to tagpin"), "{missing}");
    std::fs::create_dir(&path).unwrap();
    let mut ring = Ring::open(&path, ROOMY).unwrap();
    ring.keep(&image(Kind::Rejected, "bolt", 1, b"1")).unwrap();
    std::fs::rename(&path, folder.join("moved")).unwrap();
    assert!(matches!(ring.keep(&image(Kind::Rejected, "bolt", 2, b"2")), Err(NotKept::NoFolder(_))));
    assert!(!path.exists() && ring.holds() == (0, 0));
    std::fs::create_dir(&path).unwrap();
    ring.keep(&image(Kind::Rejected, "bolt", 3, b"3")).unwrap();
    assert_eq!((parts(&path), parts(&folder.join("moved"))), ([3].into(), [1].into()));
    assert!(Ring::open(&path, ROOMY).is_err(), "it was taken anew");
    // A file in its place.
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::write(&path, "mine").unwrap();
    for why in [ring.keep(&image(Kind::Rejected, "bolt", 4, b"4")).unwrap_err(), Ring::open(&path, ROOMY).unwrap_err()] {
        assert!(why.to_string().contains("kept is no folder, expected one for images"), "{why}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Nothing that lies in the folder leads a write or a removal out of it.
#[test]
fn links_in_the_folder_are_neither_written_through_nor_emptied() {
    let folder = scratch("links");
    let (path, outside) = (folder.join("kept"), folder.join("outside"));
    [&path, &outside, &outside.join("deep")].iter().for_each(|f| std::fs::create_dir(f).unwrap());
    std::fs::write(outside.join("mine"), "mine").unwrap();
    let own_name = Stem { number: 1, wall: Some(NOW), kind: Kind::Rejected, part: 1 };
    std::fs::write(outside.join(own_name.file(Which::Jpeg)), "mine").unwrap();
    let untouched = files(&outside);
    // A folder of a tag that is a link, and links under the very names that are written.
    symlink(&outside, path.join("bolt")).unwrap();
    std::fs::create_dir(path.join("nut")).unwrap();
    for which in [Which::Jpeg, Which::Json, Which::Unfinished] {
        symlink(outside.join("mine"), path.join("nut").join(own_name.file(which))).unwrap();
    }
    let mut ring = Ring::open(&path, ROOMY).unwrap();
    assert_eq!(ring.holds(), (0, 0), "what is behind a link is not the ring's");
    let why = ring.keep(&image(Kind::Rejected, "bolt", 9, b"9")).unwrap_err().to_string();
    assert!(why.contains("kept/bolt is no folder"), "{why}");
    ring.held.as_mut().unwrap().next = 1;
    ring.keep(&image(Kind::Rejected, "nut", 1, b"whole")).unwrap();
    assert_eq!(std::fs::read(path.join("nut").join(own_name.file(Which::Jpeg))).unwrap(), b"whole");
    ring.tend(Some((NOW + 40 * 86_400) * 1_000_000)).unwrap();
    drop(ring);
    let purged = purge(&path).unwrap();
    assert_eq!(files(&outside), untouched);
    assert!(purged.left.contains(&"bolt".into()), "{purged:?}");
    // The folder itself may be a link: people move it to a larger disk so.
    symlink(&outside, folder.join("link")).unwrap();
    let mut ring = Ring::open(&folder.join("link"), ROOMY).unwrap();
    ring.keep(&image(Kind::Drawn, "bolt", 5, b"5")).unwrap();
    assert!(files(&outside).keys().any(|name| name.starts_with("bolt/tagpin-")));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_somebody_removes_by_hand_does_no_harm_and_room_comes_back() {
    let folder = scratch("hand");
    let limits = Limits { quotas: [4 * 8192; 5], max_bytes: 6 * 8192, ..ROOMY };
    let mut ring = Ring::open(&folder, limits).unwrap();
    for part in 1..=4 {
        ring.keep(&image(Kind::Foreign, "bolt", part, b"x")).unwrap();
    }
    std::fs::remove_dir_all(folder.join("bolt")).unwrap();
    for part in 5..=9 {
        ring.keep(&image(Kind::Foreign, "bolt", part, b"x")).unwrap();
    }
    assert_eq!((parts(&folder), ring.holds().0), ([6, 7, 8, 9].into(), 4));
    // Half of an image: the other half goes with it, or stays of use.
    let of = |part: u64, ending: &str| {
        let name = files(&folder).into_keys().find(|name| name.ends_with(&format!("-part{part}{ending}"))).unwrap();
        folder.join(name)
    };
    std::fs::remove_file(of(6, ".jpg")).unwrap();
    std::fs::remove_file(of(7, ".json")).unwrap();
    std::fs::write(of(8, ".jpg"), "").unwrap();
    drop(ring);
    let ring = Ring::open(&folder, limits).unwrap();
    assert_eq!(ring.holds().0, 2);
    let left: Vec<String> = files(&folder).into_keys().map(|name| name.rsplit_once("-part").unwrap().1.into()).collect();
    assert_eq!(left, ["7.jpg", "9.jpg", "9.json"]);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// What a purge had removed was told as held for up to an hour.
#[test]
fn what_is_held_is_known_after_a_purge_beside_the_run_and_after_an_image_was_moved() {
    let folder = scratch("purged");
    let mut ring = Ring::open(&folder, ROOMY).unwrap();
    let keep = |ring: &mut Ring, part| ring.keep(&image(Kind::Rejected, "bolt", part, &[1; 9000])).unwrap();
    (1..=3).for_each(|part| keep(&mut ring, part));
    ring.tend(None).unwrap();
    let each = 12_288 + 4096;
    assert_eq!(ring.holds(), (3, 3 * each));
    assert_eq!(purge(&folder).unwrap().images, 3);
    ring.tend(None).unwrap();
    assert_eq!(ring.holds(), (0, 0));
    (4..=5).for_each(|part| keep(&mut ring, part));
    // Moved to another tag it still is one that the folder holds.
    std::fs::rename(folder.join("bolt"), folder.join("nut")).unwrap();
    ring.tend(None).unwrap();
    assert_eq!(ring.holds(), (2, 2 * each));
    assert_eq!(parts(&folder), BTreeSet::from([4, 5]));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// An image that a person moved to its true tag's folder was in nobody's count, and stayed for
/// ever.
#[test]
fn an_image_that_was_moved_to_another_tag_is_found_there_and_goes_when_it_is_old() {
    let folder = scratch("moved");
    let mut ring = Ring::open(&folder, ROOMY).unwrap();
    ring.keep(&image(Kind::Uncertain, "_unknown", 1, b"x")).unwrap();
    ring.keep(&image(Kind::Uncertain, "_unknown", 2, b"x")).unwrap();
    std::fs::create_dir(folder.join("nut")).unwrap();
    for name in files(&folder).into_keys().filter(|name| name.contains("-part1.")) {
        std::fs::rename(folder.join(&name), folder.join(name.replace("_unknown", "nut"))).unwrap();
    }
    ring.held.as_mut().unwrap().read -= READ_EVERY;
    ring.tend(Some(NOW * 1_000_000)).unwrap();
    assert_eq!((ring.holds().0, parts(&folder)), (2, [1, 2].into()));
    ring.tend(Some((NOW + 30 * 86_400 - 1) * 1_000_000)).unwrap();
    assert_eq!(parts(&folder), [1, 2].into());
    ring.tend(Some((NOW + 30 * 86_400) * 1_000_000)).unwrap();
    assert_eq!((ring.holds(), parts(&folder)), ((0, 0), [].into()));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A process that is killed leaves a file that is not whole under a name that nobody takes for an
/// image; whoever takes the folder over removes it.
#[test]
fn an_unfinished_file_is_removed_by_whoever_takes_over_and_others_of_that_look_are_not() {
    let folder = scratch("unfinished");
    std::fs::create_dir(folder.join("bolt")).unwrap();
    let stem = Stem { number: 41, wall: None, kind: Kind::Drawn, part: 2 };
    std::fs::write(folder.join("bolt").join(stem.file(Which::Unfinished)), "half").unwrap();
    std::fs::write(folder.join("bolt/.mine.part"), "mine").unwrap();
    std::fs::write(folder.join("bolt").join(stem.file(Which::Json)), "{}").unwrap();
    let mut ring = Ring::open(&folder, ROOMY).unwrap();
    assert_eq!(files(&folder).into_keys().collect::<Vec<_>>(), ["bolt/.mine.part"]);
    ring.keep(&image(Kind::Drawn, "bolt", 3, b"x")).unwrap();
    assert!(files(&folder).keys().any(|name| name.contains("tagpin-00000042-")), "numbers go on: {:?}", files(&folder));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn an_image_above_its_quota_is_told_and_costs_no_other_and_the_floor_evicts_all() {
    let folder = scratch("quota");
    let limits = Limits { quotas: [8192, 8192, 8192, 8192, 0], ..ROOMY };
    let mut ring = Ring::open(&folder, limits).unwrap();
    ring.keep(&image(Kind::Foreign, "bolt", 1, b"x")).unwrap();
    let large = vec![0; 5000];
    for (kind, jpeg) in [(Kind::Foreign, &large[..]), (Kind::Rejected, b"x")] {
        let why = ring.keep(&image(kind, "bolt", 2, jpeg)).unwrap_err().to_string();
        assert!(why.contains(&format!("are kept of {0} ones; raise {0}_mb and max_mb", kind.name())), "{why}");
    }
    assert_eq!(parts(&folder), [1].into());
    drop(ring);
    // No disk has so much free space.
    let mut ring = Ring::open(&folder, Limits { free_bytes: u64::MAX / 2, ..ROOMY }).unwrap();
    let why = ring.keep(&image(Kind::Foreign, "bolt", 3, b"x")).unwrap_err().to_string();
    assert!(why.contains(" MB are free on its disk, ") && why.contains("make room or lower free_mb"), "{why}");
    assert_eq!((parts(&folder), ring.holds()), ([].into(), (0, 0)));
    // `check` called it fine.
    assert_eq!(probe(&folder, Limits { free_bytes: u64::MAX / 2, ..ROOMY }).unwrap_err().to_string(), why);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn purge_removes_the_rings_files_and_names_everything_else() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = scratch("purge");
    let mut ring = Ring::open(&folder, ROOMY).unwrap();
    for part in 1..=7 {
        let tag = ["bolt", "nut", "_foreign"][part as usize % 3];
        ring.keep(&image(Kind::ALL[part as usize % 5], tag, part, b"whole")).unwrap();
    }
    let odd = Path::new(OsStr::from_bytes(b"odd\xff\x1b[2J"));
    for name in [Path::new("notes.txt"), odd, Path::new("bolt/mine.jpg"), &Path::new("nut").join(odd)] {
        std::fs::write(folder.join(name), "mine").unwrap();
    }
    std::fs::write(folder.join("bolt/tagpin-1-2-rejected-part3.jpg"), "mine").unwrap();
    std::fs::create_dir_all(folder.join("bolt/.tagpin-00000001-2-rejected-part3.part")).unwrap();
    std::fs::create_dir(folder.join("empty")).unwrap();
    // A run that goes on is no hindrance.
    let purged = purge(&folder).unwrap();
    let left = ["bolt/.tagpin-00000001-2-rejected-part3.part", "bolt/mine.jpg", "bolt/tagpin-1-2-rejected-part3.jpg"];
    let mut left: Vec<PathBuf> = left.into_iter().map(PathBuf::from).collect();
    left.extend(["empty".into(), "notes.txt".into(), Path::new("nut").join(odd), odd.into()]);
    let bytes = 7 * (b"whole".len() + b"{}".len()) as u64;
    assert_eq!(purged, Purged { images: 7, files: 14, bytes, left, refused: Vec::new(), in_use: true });
    assert_eq!(files(&folder).len(), 5, "{:?}", files(&folder));
    assert!(!folder.join("_foreign").exists() && folder.join("empty").exists());
    ring.keep(&image(Kind::Drawn, "bolt", 8, b"x")).unwrap();
    drop(ring);
    let purged = purge(&folder).unwrap();
    assert_eq!((purged.images, purged.in_use, folder.join(LOCK).exists()), (1, false, false));
    assert_eq!(purge(&folder).unwrap().files, 0);
    assert!(matches!(purge(&folder.join("none")), Err(NotKept::NoFolder(_))));
    std::fs::remove_dir_all(&folder).unwrap();
}
