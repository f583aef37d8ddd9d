//! The program as its users run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the program in a folder.
pub fn tools(args: &[&str], folder: &Path) -> Output {
    // A cache of each test's own: two that run at once would overwrite one another's.
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagpin-tools"));
    command.args(args).current_dir(folder).env("TAGPIN_CACHE", folder.join("cache")).output().unwrap()
}

/// What it prints; it must succeed.
pub fn run(args: &[&str], folder: &Path) -> String {
    let out = tools(args, folder);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What it says against; it must end with 2.
pub fn refused(args: &[&str], folder: &Path) -> String {
    let out = tools(args, folder);
    assert_eq!(out.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// What it says against; the verdict must end it with this code.
#[allow(dead_code, reason = "one of the test programs uses it")]
pub fn not_shipped(args: &[&str], code: i32, folder: &Path) -> String {
    let out = tools(args, folder);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// An empty folder of this name.
pub fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A JSON file.
#[allow(dead_code, reason = "not all of the test programs use it")]
pub fn json(path: PathBuf) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
