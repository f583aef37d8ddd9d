use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tagpin-rotate-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// An event log on the settings file itself was accepted, and its lines made the settings
/// unreadable.
#[test]
fn a_file_of_something_else_is_no_log_and_a_log_is_continued() {
    let folder = folder("probe");
    let path = folder.join("file");
    for (bytes, good) in [("[line]\n", false), ("\u{89}TAGPIN", false), ("", true), ("{\"schema\":2}\n", true)] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(probe(&path).is_ok(), good, "{bytes:?}: {:?}", probe(&path));
        assert_eq!(RotatingFile::open(&path, 1000, 2).is_ok(), good, "{bytes:?}");
        assert_eq!(read(&path), bytes, "it is not touched");
    }
    let told = |path: &Path| [probe(path).unwrap_err(), RotatingFile::open(path, 9, 2).unwrap_err()].map(|e| e.to_string());
    assert!(told(&folder).iter().all(|why| why.contains("is a folder")), "{:?}", told(&folder));
    let nowhere = told(&folder.join("no/log"));
    assert!(nowhere.iter().all(|why| why.contains("/no does not exist; make it")), "{nowhere:?}");
    assert!(probe(&folder.join("new")).is_ok() && !folder.join("new").exists());
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Two lines on one log each rotated it under the other, until lines of both were written over.
#[test]
fn a_log_has_one_writer_also_after_it_was_rotated_moved_or_removed() {
    let folder = folder("one");
    let path = folder.join("log");
    let second = || RotatingFile::open(&path, 30, 2);
    let mut first = second().unwrap();
    let refused = |what: &str| {
        let why = second().expect_err(what).to_string();
        assert!(why.ends_with("log is written by another run; stop it, or give this line a log of its own"), "{why}");
        assert!(probe(&path).unwrap().ends_with("log, written by a run now"), "{what}");
    };
    refused("at first");
    for i in 0..10 {
        first.append(format!("{{\"n\":{i}}}\n").as_bytes()).unwrap();
        refused("it may have rotated");
    }
    // What was rotated is no longer taken, and neither is another log.
    assert!(RotatingFile::open(&folder.join("log.1"), 30, 2).is_ok());
    assert!(RotatingFile::open(&folder.join("other"), 30, 2).is_ok());
    // With the name gone, whoever writes next has it; the other is told with each line, and
    // writes nothing.
    std::fs::rename(&path, folder.join("moved")).unwrap();
    let other = second().unwrap();
    let why = first.append(b"{}\n").unwrap_err();
    assert_eq!((why.to_string().as_str(), read(&path).as_str()), ("another run writes it", ""));
    drop(other);
    first.append(b"{}\n").unwrap();
    refused("it is the first one's again");
    drop(first);
    assert!(second().is_ok(), "the lock ends with its writer");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A log named `log.1` was moved and written over by the rotation of `log`, while its own
/// writer counted every line as written.
#[test]
fn a_log_with_the_name_of_anothers_rotated_file_is_left_where_it_is() {
    let folder = folder("name");
    let path = folder.join("log");
    let mut own = RotatingFile::open(&folder.join("log.2"), 1000, 0).unwrap();
    own.append(b"{\"own\":1}\n").unwrap();
    let mut file = RotatingFile::open(&path, 30, 2).unwrap();
    for _ in 0..5 {
        // The first rotation has a free name; the next is put off until twice the cap.
        file.append(b"{\"line\":123}\n").unwrap();
    }
    for _ in 0..3 {
        let _ = file.append(b"{\"line\":123}\n");
    }
    let why = file.append(b"{\"line\":123}\n").unwrap_err().to_string();
    assert!(why.starts_with("cannot be rotated: another run writes ") && why.ends_with("log.2"), "{why}");
    own.append(b"{\"own\":2}\n").unwrap();
    assert_eq!(read(&folder.join("log.2")), "{\"own\":1}\n{\"own\":2}\n");
    drop(own);
    file.append(b"{\"line\":123}\n").unwrap();
    assert!(!read(&folder.join("log.2")).contains("own"), "what nobody writes is the log's own");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Somebody's notes beside the log, by the name of a rotated file, were moved on with each
/// rotation and written over as the oldest.
#[test]
fn a_file_of_something_else_with_the_name_of_a_rotated_one_is_never_moved() {
    let folder = folder("notes");
    for name in ["log.1", "log.2"] {
        let notes = folder.join(name);
        std::fs::write(&notes, "notes\n").unwrap();
        let mut file = RotatingFile::open(&folder.join("log"), 30, 2).unwrap();
        let failed = (0..9).find_map(|_| file.append(b"{\"line\":123}\n").err());
        let why = failed.expect("it is put off until twice the cap").to_string();
        assert!(why.contains(&format!("{name} is not this log's and is in its way")), "{why}");
        assert_eq!(read(&notes), "notes\n");
        std::fs::remove_file(&notes).unwrap();
        file.append(b"{\"line\":123}\n").unwrap();
        assert_eq!(read(&folder.join("log")), "{\"line\":123}\n", "history goes on where the name is free");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Of a rotated file that could not be opened for want of a descriptor it was said that it is
/// not the log's.
#[test]
fn a_rotated_file_that_cannot_be_read_is_told_as_that() {
    let folder = folder("unread");
    // Opens, and gives no byte at its beginning.
    std::os::unix::fs::symlink("/proc/self/mem", folder.join("log.1")).unwrap();
    let mut file = RotatingFile::open(&folder.join("log"), 30, 2).unwrap();
    let failed = (0..9).find_map(|_| file.append(b"{\"line\":123}\n").err());
    let why = failed.expect("it is put off until twice the cap").to_string();
    assert!(why.starts_with("cannot be rotated: ") && why.contains("log.1 cannot be read: "), "{why}");
    std::fs::remove_file(folder.join("log.1")).unwrap();
    file.append(b"{\"line\":123}\n").unwrap();
    assert!(folder.join("log.1").is_file(), "history goes on where it can be read");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A rotation removed whatever was called `log.new`, also what somebody had written there.
#[test]
fn a_file_with_the_name_of_a_rotations_new_file_is_removed_only_where_it_is_empty() {
    let folder = folder("new");
    let mut file = RotatingFile::open(&folder.join("log"), 30, 2).unwrap();
    let fresh = folder.join("log.new");
    std::fs::write(&fresh, "notes").unwrap();
    let mut failed = None;
    for i in 0..6 {
        failed = file.append(format!("{{line number {i}\n").as_bytes()).err().or(failed);
    }
    let why = failed.expect("it is put off until twice the cap").to_string();
    assert!(why.contains("log.new is not this log's and is in its way"), "{why}");
    assert_eq!(read(&fresh), "notes");
    // What a rotation that was cut off leaves behind.
    std::fs::write(&fresh, "").unwrap();
    file.append(b"{line number 6\n").unwrap();
    assert_eq!(read(&folder.join("log")), "{line number 6\n");
    assert!(!fresh.exists());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn files_rotate_at_their_cap_and_the_oldest_goes() {
    let folder = folder("cap");
    let mut file = RotatingFile::open(&folder.join("log"), 30, 2).unwrap();
    for i in 0..10 {
        file.append(format!("{{line number {i}\n").as_bytes()).unwrap();
    }
    assert_eq!(read(&folder.join("log")), "{line number 8\n{line number 9\n");
    assert_eq!(read(&folder.join("log.1")), "{line number 6\n{line number 7\n");
    assert_eq!(read(&folder.join("log.2")), "{line number 4\n{line number 5\n");
    assert!(!folder.join("log.3").exists() && !folder.join("log.new").exists());
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A rotation that failed half-way was done again with each line, until every file of history
/// had been written over.
#[test]
fn a_rotation_that_cannot_be_done_is_put_off_and_no_history_goes() {
    let folder = folder("stuck");
    let mut file = RotatingFile::open(&folder.join("log"), 30, 3).unwrap();
    for i in 0..6 {
        file.append(format!("{{line number {i}\n").as_bytes()).unwrap();
    }
    let history = [read(&folder.join("log.1")), read(&folder.join("log.2"))];
    // The new file's name is taken by a folder that is not empty: the rotation cannot begin.
    std::fs::create_dir_all(folder.join("log.new/x")).unwrap();
    file.append(b"{line number 6\n").unwrap();
    file.append(b"{line number 7\n").unwrap();
    assert!(file.append(b"{line number 8\n").is_err(), "twice its cap is enough");
    assert_eq!([read(&folder.join("log.1")), read(&folder.join("log.2"))], history);
    std::fs::remove_dir_all(folder.join("log.new")).unwrap();
    file.append(b"{line number 9\n").unwrap();
    assert_eq!(read(&folder.join("log")), "{line number 9\n");
    assert_eq!(read(&folder.join("log.1")), "{line number 4\n{line number 5\n{line number 6\n{line number 7\n");
    assert_eq!([read(&folder.join("log.2")), read(&folder.join("log.3"))], history);
    // A rotation that stopped between two files leaves a gap, and the next one fills it.
    std::fs::rename(folder.join("log.1"), folder.join("kept")).unwrap();
    let above = [read(&folder.join("log.2")), read(&folder.join("log.3"))];
    file.append(b"a line that is longer than the cap of this file\n").unwrap();
    assert_eq!([read(&folder.join("log.2")), read(&folder.join("log.3"))], above);
    assert_eq!(read(&folder.join("log.1")), "{line number 9\n");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The settings of the run itself were "written by another run", and no path at all was
/// "folder .".
#[test]
fn what_is_locked_but_no_log_and_what_is_no_path_are_called_what_they_are() {
    let folder = folder("locked");
    let path = folder.join("device.toml");
    let told = |path: &Path| RotatingFile::open(path, 30, 2).map(drop).map_err(|e| e.to_string());
    std::fs::write(&path, "[events]\n").unwrap();
    let settings = File::open(&path).unwrap();
    settings.try_lock().unwrap();
    let why = told(&path).unwrap_err();
    assert!(why.ends_with("device.toml holds something else than events; choose another path"), "{why}");
    drop(settings);
    assert!(told(&path).unwrap_err().contains("something else than events"), "locked or not");
    assert_eq!(read(&path), "[events]\n");
    for why in [told(Path::new("")).unwrap_err(), probe(Path::new("")).unwrap_err().to_string()] {
        assert_eq!(why, "the path is empty; expected a file, name one");
    }
    // The nearest good one is taken, and then it is another run's.
    let log = RotatingFile::open(&folder.join("log"), 30, 2).unwrap();
    assert!(told(&folder.join("log")).unwrap_err().contains("written by another run"));
    drop(log);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A log whose folder was removed went on into a file without a name.
#[test]
fn a_folder_that_is_removed_costs_its_lines_and_writing_goes_on_when_it_is_back() {
    let folder = folder("gone");
    let path = folder.join("sub/log");
    std::fs::create_dir(folder.join("sub")).unwrap();
    let mut file = RotatingFile::open(&path, 1000, 2).unwrap();
    file.append(b"one\n").unwrap();
    std::fs::remove_dir_all(folder.join("sub")).unwrap();
    assert!(file.append(b"two\n").is_err());
    assert!(!folder.join("sub").exists(), "it may be where a disk is mounted that is away");
    std::fs::create_dir(folder.join("sub")).unwrap();
    file.append(b"three\n").unwrap();
    assert_eq!(read(&path), "three\n");
    // Moved away by another program, as log rotation of the system does.
    std::fs::rename(&path, folder.join("sub/moved")).unwrap();
    file.append(b"four\n").unwrap();
    assert_eq!((read(&path).as_str(), read(&folder.join("sub/moved")).as_str()), ("four\n", "three\n"));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A line that a full disk cut in two had the next one fused to it.
#[test]
fn what_is_left_of_a_line_never_joins_the_next() {
    let folder = folder("torn");
    let path = folder.join("log");
    std::fs::write(&path, "{\"schema\":2,\"a\":1}\n{\"schema\":2,\"ev").unwrap();
    RotatingFile::open(&path, 1000, 2).unwrap().append(b"{\"schema\":2}\n").unwrap();
    assert_eq!(read(&path), "{\"schema\":2,\"a\":1}\n{\"schema\":2}\n");
    std::fs::write(&path, "somebody's file").unwrap();
    RotatingFile::at(&path, 1000, 2).append(b"{\"schema\":2}\n").unwrap();
    assert_eq!(read(&path), "somebody's file\n{\"schema\":2}\n", "what is not ours is kept");
    std::fs::remove_dir_all(&folder).unwrap();
}
