//! A follower without its line: the test takes what is handed over and gives back what is left.

use super::*;
use crate::bundle::{Contract, Input, Tables, Tag, write};
use crate::decide::{Role, Task};
use crate::events::Event;
use crate::head::Score;
use crate::installed::{Keys, Options, install};
use crate::supervisor::{EngineFailed, PartEnd, SystemClock};

/// A bundle of its own hash, by its temperature.
fn bundle(n: u32) -> Vec<u8> {
    let tables = Tables { real: &[0; 4 * Tables::LEN], int8: &[0; Tables::LEN] };
    let input = Input { height: 8, width: 8, fit: Fit::Crop, tables, scale: 0.02, zero_point: 0 };
    let rule = TagRule { threshold: Score(n as u16), review_low: Score(n as u16) };
    let contract = Contract {
        name: "line",
        task: Task::Multiclass,
        tags: [Tag { name: "bolt", rule, role: Role::Good }, Tag { name: "nut", rule, role: Role::Defect }]
            .into_iter()
            .collect(),
        temperature_q16: 65536 + n,
        input,
        graph_sha256: crate::bundle::sha256(b"a graph"),
        dataset_sha256: [0; 32],
        run_sha256: [0; 32],
        mixed: false,
    };
    write(&contract, b"a graph", &[]).unwrap()
}

fn rules(bundle: &Bundle<'_>) -> Vec<TagRule> {
    bundle.contract.tags.iter().map(|tag| tag.rule).collect()
}

/// What a follower of an installed folder and its line come to.
struct Line {
    folder: PathBuf,
    tuning: Arc<Tuning>,
    follower: Follower,
    events: Arc<Events>,
    /// The model that decides parts, and the reason for which the line went back to it.
    runs: [u8; 32],
    back: Option<String>,
}

impl Line {
    /// It runs bundle 1.
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tagpin-update-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        let sha256 = add(&folder, 1);
        let file = installed::bundle_file(&folder.join("line"));
        let bytes = std::fs::read(&file).unwrap();
        let bundle = Bundle::read(&bytes).unwrap();
        let tuning = Arc::new(Tuning::new(sha256, rules(&bundle)));
        let load = |file: &Path, _: &dyn Fn()| {
            let bytes = std::fs::read(file).unwrap();
            let bundle = Bundle::read(&bytes).unwrap();
            let sha256 = bundle.sha256;
            let finish = Box::new(move || Ok(Model::drawn(sha256)));
            Ok(Loaded { sha256, finish, rules: rules(&bundle), record: record(&bundle), remark: String::new() })
        };
        let line = folder.join("line");
        let follower = Follower::new(line, file, sha256, record(&bundle), tuning.clone(), Box::new(load));
        let events = Arc::new(Events::kept(Arc::new(SystemClock)));
        Self { folder, tuning, follower, events, runs: sha256, back: None }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("line")
    }

    fn install(&self, n: u32) -> [u8; 32] {
        add(&self.folder, n)
    }

    /// The follower looks at its folder, the line at what waits; twice, since the model before is
    /// given back in between.
    fn turn(&mut self) {
        self.follower.look(&self.events, &AtomicBool::new(false));
        for _ in 0..2 {
            self.follower.mind(&self.events);
            let Some(taken) = self.tuning.take(true) else { continue };
            let Some((model, _)) = taken.model else { continue };
            assert!(self.tuning.give_back(Model::drawn(self.runs)).is_none());
            (self.runs, self.back) = (model.sha256(), taken.back.map(|why| why.as_str().to_string()));
        }
        self.follower.mind(&self.events);
    }

    /// Parts of the bundle that runs have their end; late ones lie evenly among them.
    fn parts(&self, parts: usize, late: usize) {
        for n in 0..parts {
            self.tuning.ended(PartEnd { bundle: self.runs, late: (n + 1) * late / parts > n * late / parts });
            self.follower.mind(&self.events);
        }
    }

    fn engine_fails(&self) {
        self.tuning.failed(EngineFailed { bundle: self.runs, part: 7, why: Why::of(&"no logits") });
    }

    fn current(&self) -> [u8; 32] {
        let bytes = std::fs::read(installed::bundle_file(&self.path())).unwrap();
        Bundle::read(&bytes).unwrap().sha256
    }

    fn notes(&self) -> Vec<String> {
        let mut told: Vec<Event> = Vec::new();
        self.events.take_all(&mut told);
        told.iter()
            .filter_map(|e| if let What::Note(text) = &e.what { Some(text.as_str().to_string()) } else { None })
            .collect()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Installs bundle `n` into the folder; its hash.
fn add(folder: &Path, n: u32) -> [u8; 32] {
    let (file, bytes) = (folder.join(format!("{n}.tagpin")), bundle(n));
    std::fs::write(&file, &bytes).unwrap();
    install(&folder.join("line"), &file, &Keys::default(), Options::default(), |_| Ok(())).unwrap();
    Bundle::read(&bytes).unwrap().sha256
}

#[test]
fn one_engine_error_of_a_bundle_that_was_taken_over_brings_the_one_before_back_and_its_rules_and_its_link() {
    let mut line = Line::new("engine");
    let one = line.runs;
    // A person's threshold for the first bundle.
    let own = vec![TagRule { threshold: Score(9), review_low: Score(9) }; 2];
    line.tuning.set(one, own.clone()).unwrap();
    let two = line.install(2);
    line.turn();
    assert_eq!((line.runs, line.back.clone()), (two, None));
    // Of the bundle before, whose parts may have their end still: no reason.
    line.tuning.failed(EngineFailed { bundle: one, part: 6, why: Why::NONE });
    line.turn();
    assert_eq!((line.runs, line.current()), (two, two));
    line.engine_fails();
    line.turn();
    assert_eq!((line.runs, line.back.as_deref()), (one, Some("engine error at part 7: no logits")));
    assert_eq!((line.current(), line.tuning.now(), line.tuning.newest().0), (one, own, one));
    let notes = line.notes();
    assert!(
        notes.len() == 1 && notes[0].contains("current leads to bundle") && notes[0].contains("previous to"),
        "{notes:?}"
    );
    // It stays: whatever fails now, and wherever the link leads that it made itself.
    line.engine_fails();
    line.parts(1000, 1000);
    line.turn();
    assert_eq!((line.runs, line.current()), (one, one));
    // Somebody installs the same again: it is taken over, and stays with a word.
    line.install(2);
    line.turn();
    assert_eq!((line.runs, line.back.clone()), (two, None));
    line.engine_fails();
    line.turn();
    assert_eq!((line.runs, line.current()), (two, two));
    let notes = line.notes();
    assert!(notes.len() == 1 && notes[0].contains("before and stays with it now: engine error at part 7"), "{notes:?}");
    // Another one is watched anew.
    let three = line.install(3);
    line.turn();
    assert_eq!(line.runs, three);
    line.engine_fails();
    line.turn();
    assert_eq!((line.runs, line.current()), (two, two));
}

#[test]
fn late_parts_beyond_those_of_the_bundle_before_bring_it_back_with_figures_and_no_others_do() {
    let mut line = Line::new("late");
    let one = line.runs;
    line.parts(1200, 12);
    let two = line.install(2);
    line.turn();
    // As many as before, at its first parts: no reason, and after 1000 parts nothing is watched.
    line.parts(1000, 10);
    line.engine_fails();
    line.turn();
    assert_eq!((line.runs, line.current()), (two, two));
    let three = line.install(3);
    line.turn();
    line.parts(49, 49);
    line.turn();
    assert_eq!(line.runs, three, "after 50 parts it is looked at");
    line.parts(1, 0);
    line.turn();
    let why = line.back.as_deref().unwrap();
    assert!(why.starts_with("49 of its 50 parts late, 10 of 1000 before it (Fisher's exact test"), "{why}");
    assert!(why.ends_with("level 5e-5)"), "{why}");
    assert_eq!((line.runs, line.current()), (two, two));
    assert_ne!(two, one);
}

/// The line goes on with the bundle before in memory, and says what a restart would do.
#[test]
fn where_the_folder_cannot_be_written_the_line_goes_back_all_the_same_and_tells() {
    let mut line = Line::new("unwritable");
    let one = line.runs;
    let two = line.install(2);
    line.turn();
    let lock = line.path().join("lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    line.engine_fails();
    line.turn();
    assert_eq!((line.runs, line.current()), (one, two));
    let notes = line.notes();
    assert!(
        notes.len() == 1 && notes[0].contains("a restart runs what it leads to") && notes[0].contains("lock"),
        "{notes:?}"
    );
    line.turn();
    assert_eq!((line.runs, line.notes().len()), (one, 0), "it is not taken over again");
    // An install that is at work is waited for.
    std::fs::remove_dir(&lock).unwrap();
    let three = line.install(3);
    line.turn();
    assert_eq!(line.runs, three);
    let held = std::fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    line.engine_fails();
    line.turn();
    // Its previous bundle is the second, which the line left: nothing leads back to the first.
    assert_eq!((line.runs, line.current(), line.notes().len()), (one, three, 0));
    drop(held);
    line.turn();
    let notes = line.notes();
    assert!(notes.len() == 1 && notes[0].contains("are not the two bundles that the line has run"), "{notes:?}");
}

/// Every other link that leads nowhere was told; with none at all nobody knew before the next start.
#[test]
fn a_link_that_is_gone_is_told_once_until_it_is_back() {
    let mut line = Line::new("gone");
    let one = line.runs;
    let refused = |line: &Line| {
        let mut told: Vec<Event> = Vec::new();
        line.events.take_all(&mut told);
        let all = told.iter().filter_map(|e| if let What::Update(update) = &e.what { Some(update.clone()) } else { None });
        all.map(|update| (update.outcome, update.why.as_str().to_string())).collect::<Vec<_>>()
    };
    let current = line.path().join(installed::CURRENT);
    let target = std::fs::read_link(&current).unwrap();
    for _ in 0..2 {
        std::fs::remove_file(&current).unwrap();
        line.turn();
        line.turn();
        let told = refused(&line);
        assert!(told.len() == 1 && told[0].0 == Update::Refused && told[0].1.contains("current is gone"), "{told:?}");
        std::os::unix::fs::symlink(&target, &current).unwrap();
        line.turn();
        assert_eq!((refused(&line).len(), line.runs), (0, one));
    }
    let two = line.install(2);
    line.turn();
    assert_eq!(line.runs, two, "and another bundle is taken over as ever");
}

/// What a person had put beside the bundles, an older one to go back to, went with the next install.
#[test]
fn an_install_leaves_what_others_put_beside_its_bundles_and_waits_for_no_pipe() {
    let line = Line::new("foreign");
    let bundles = line.path().join("bundles");
    for name in ["mine.txt", "old.tagpin", "old.tagpin.minisig", &"A".repeat(64)] {
        std::fs::write(bundles.join(name), "mine").unwrap();
    }
    line.install(2);
    line.install(3);
    let mut names: Vec<String> =
        std::fs::read_dir(&bundles).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.len() < 64 || name.starts_with('A'));
    names.sort();
    assert_eq!(names, [&"A".repeat(64), "mine.txt", "old.tagpin", "old.tagpin.minisig"]);
    let own = std::fs::read_dir(&bundles).unwrap().count() - names.len();
    assert_eq!(own, 2, "the current bundle and the one before it");
    let lock = line.path().join("lock");
    std::fs::remove_file(&lock).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &lock, fifo, 0o600.into(), 0).unwrap();
    let file = line.folder.join("3.tagpin");
    let outcome = install(&line.path(), &file, &Keys::default(), Options::default(), |_| Ok(()));
    let why = outcome.unwrap_err().to_string();
    assert!(why.contains("lock") && why.contains("is no regular file; remove it"), "{why}");
}

/// Two installs before the line looks: the one in between never decided a part.
#[test]
fn a_bundle_that_the_line_never_saw_is_not_gone_back_to() {
    let mut line = Line::new("unseen");
    let one = line.runs;
    line.install(2);
    line.follower.look(&line.events, &AtomicBool::new(false));
    let three = line.install(3);
    line.turn();
    assert_eq!(line.runs, three);
    line.engine_fails();
    line.turn();
    assert_eq!(line.runs, one);
}

/// A run that ends by what fails leaves the folder as it would have gone back.
#[test]
fn what_ends_the_run_lets_the_link_lead_back_too() {
    let mut line = Line::new("end");
    let one = line.runs;
    let two = line.install(2);
    line.turn();
    assert_eq!((line.runs, line.current()), (two, two));
    line.engine_fails();
    line.follower.follow(&line.events, &AtomicBool::new(true));
    assert_eq!(line.current(), one);
    // One that was left before and is installed again stays, here too.
    let mut line = Line::new("end-again");
    let two = line.install(2);
    line.follower.seen().left.push(two);
    line.turn();
    assert_eq!(line.runs, two);
    line.engine_fails();
    line.follower.follow(&line.events, &AtomicBool::new(true));
    assert_eq!(line.current(), two);
}
