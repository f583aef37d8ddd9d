//! Changes of an installed bundle: install and roll back. Each leaves a folder that runs, wherever
//! it is cut off.

use super::signature::{Keys, SignatureError, Signed, beside};
use super::{CURRENT, PREVIOUS, Seen};
use crate::bundle::{Bundle, BundleError, Contract, Hex};
use crate::decide::{Role, Task};
use crate::regular::{self, Unread};
use std::fs::{File, Metadata, Permissions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Names in `bundles/` that a change writes before it is done. One change at a time holds the lock,
/// so what lies there is left over from one that was cut off.
const STAGED: &str = "staged.tagpin";
const LINK: &str = "link.new";
const BUNDLES: &str = "bundles";
const LOCK: &str = "lock";

/// What an installation may do besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A version below the current one's.
    pub downgrade: bool,
    /// A bundle for which the line must be restarted.
    pub restart: bool,
}

/// Something in which two bundles differ that a running line cannot change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// One tag, or any number.
    Task,
    /// Names of the tags, or their order.
    Tags,
    /// What tags stand for.
    Roles,
    /// Rows and columns of the model's image.
    InputSize,
}

impl Difference {
    /// The name used in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Tags => "tags",
            Self::Roles => "roles",
            Self::InputSize => "input size",
        }
    }
}

/// What of a contract a running line cannot change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    task: Task,
    tags: Vec<(String, Role)>,
    size: [u16; 2],
}

impl Shape {
    /// That of `contract`.
    pub fn of(contract: &Contract<'_>) -> Self {
        let tags = contract.tags.iter().map(|t| (t.name.to_string(), t.role)).collect();
        Self { task: contract.task, tags, size: [contract.input.height, contract.input.width] }
    }

    /// In what `new` asks for a restart of a line that runs this.
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let names = |s: &Self| s.tags.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let same_tags = names(self) == names(new);
        let found = [
            (Difference::Task, self.task != new.task),
            (Difference::Tags, !same_tags),
            (Difference::Roles, same_tags && self.tags != new.tags),
            (Difference::InputSize, self.size != new.size),
        ];
        found.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
    }
}

/// In what `new` asks for a restart of a line that runs `old`.
pub fn differences(old: &Contract<'_>, new: &Contract<'_>) -> Vec<Difference> {
    Shape::of(old).differences(&Shape::of(new))
}

/// What a change did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<T> {
    /// The bundle that is current now: its hash.
    pub current: String,
    /// What its signature says, if it has one.
    pub signed: Option<Signed>,
    /// The bundle that was current before; `None` where there was none that could be read. The same
    /// as `current` where that was installed again.
    pub before: Option<String>,
    /// The bundle that a rollback goes to now.
    pub previous: Option<String>,
    /// In what the line must be restarted for it.
    pub restart: Vec<Difference>,
    /// What the trial found.
    pub trial: T,
}

/// Why nothing was changed.
#[derive(Debug)]
pub enum InstallError {
    /// Another process changes the folder.
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// The system refuses a step.
    Io {
        /// The step.
        step: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The bundle's file cannot be read.
    Unread {
        /// The file.
        path: PathBuf,
        /// Why.
        why: Unread,
    },
    /// A link was named instead of a file.
    Link {
        /// The link.
        path: PathBuf,
    },
    /// The file is no bundle.
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why.
        why: BundleError,
    },
    /// Nobody who is trusted signed it.
    Signature {
        /// The bundle.
        path: PathBuf,
        /// Why.
        why: SignatureError,
    },
    /// Its version is not above the current one's.
    Version {
        /// Its version; `None` where it has no signature that states one.
        found: Option<u64>,
        /// The current one's.
        current: u64,
    },
    /// The current bundle or its signature is damaged or gone, so nobody knows which version it
    /// had.
    UnknownVersion {
        /// The file.
        path: PathBuf,
    },
    /// A running line could not take it over.
    Restart {
        /// In what it differs from the current one.
        differs: Vec<Difference>,
    },
    /// It did not pass its trial.
    Trial {
        /// The bundle.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The links lead elsewhere than to the bundles that a line leaves and goes back to.
    Moved {
        /// The folder.
        folder: PathBuf,
    },
    /// No bundle was ever installed in the folder.
    NotInstalled {
        /// The folder.
        folder: PathBuf,
    },
    /// There is no other bundle to go back to.
    NoPrevious {
        /// The folder.
        folder: PathBuf,
    },
}

impl InstallError {
    /// Whether the bundle was looked at and refused; else the change could not be tried.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Io { .. } | Self::Unread { .. } | Self::Moved { .. } | Self::NotInstalled { .. } => {
                false
            }
            Self::Link { .. }
            | Self::Bundle { .. }
            | Self::Signature { .. }
            | Self::Version { .. }
            | Self::UnknownVersion { .. }
            | Self::Restart { .. }
            | Self::Trial { .. }
            | Self::NoPrevious { .. } => true,
        }
    }
}

impl std::fmt::Display for InstallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Busy { folder } => {
                write!(f, "{}: another install or rollback is at work there; wait until it is done", folder.display())
            }
            Self::Io { step, path, error } => write!(f, "{}: {step}: {error}", path.display()),
            Self::Unread { path, why } => write!(f, "bundle {}: cannot be read: {why}", path.display()),
            Self::Link { path } => write!(f, "bundle {}: is a symbolic link; name the file itself", path.display()),
            Self::Bundle { path, why } => write!(f, "bundle {}: {why}", path.display()),
            Self::Signature { path, why } => write!(f, "bundle {}: {why}", path.display()),
            Self::Version { found: None, current } => write!(
                f,
                "no signature states its version, the installed bundle has version {current}; sign it with a higher version, or \
                 add --downgrade"
            ),
            Self::Version { found: Some(found), current } => write!(
                f,
                "version {found}, the installed bundle has version {current}; sign it with a higher version, or add --downgrade"
            ),
            Self::UnknownVersion { path } => write!(
                f,
                "the installed bundle, {}, or its signature is damaged or gone, so its version is not known; install that \
                 bundle again, or add --downgrade",
                path.display()
            ),
            Self::Restart { differs } => {
                let names: Vec<&str> = differs.iter().map(|d| d.name()).collect();
                write!(
                    f,
                    "restart asked for: other {} than the installed bundle's, which a running line cannot change; add \
                     --force-restart and restart the line after it",
                    names.join(", ")
                )
            }
            Self::Trial { path, why } => write!(f, "bundle {}: {why}", path.display()),
            Self::Moved { folder } => write!(
                f,
                "{}: current and previous are not the two bundles that the line has run; `tagpin bundle status` shows them",
                folder.display()
            ),
            Self::NotInstalled { folder } => write!(
                f,
                "{}: nothing is installed in it; name a folder that `tagpin bundle install` filled",
                folder.display()
            ),
            Self::NoPrevious { folder } => {
                write!(f, "{}: no previous bundle to go back to: the current one is the only one there", folder.display())
            }
        }
    }
}

impl std::error::Error for InstallError {}

fn io<T>(step: &'static str, path: &Path, outcome: std::io::Result<T>) -> Result<T, InstallError> {
    outcome.map_err(|error| InstallError::Io { step, path: path.into(), error })
}

/// Refuses a folder that is not there, or none: its name may be mistyped.
pub(super) fn can_be_listed(folder: &Path) -> Result<(), InstallError> {
    io("cannot be read", folder, std::fs::read_dir(folder).map(drop))
}

/// A bundle's bytes.
fn read(path: &Path) -> Result<Vec<u8>, InstallError> {
    regular::read(path, regular::BUNDLE).map_err(|why| InstallError::Unread { path: path.into(), why })
}

/// Makes `bundle` the current one of `folder`, which is made where there is none.
///
/// `trial` is given the copy that was read back from the disk and says what it found, or why the
/// bundle must not run. Whatever refuses it, the current bundle stays.
pub fn install<T>(
    folder: &Path,
    bundle: &Path,
    keys: &Keys,
    options: Options,
    trial: impl FnOnce(&Bundle<'_>) -> Result<T, String>,
) -> Result<Changed<T>, InstallError> {
    let is_link = std::fs::symlink_metadata(bundle).is_ok_and(|about| about.is_symlink());
    if is_link {
        return Err(InstallError::Link { path: bundle.into() });
    }
    // Before anything is written, so that nothing is left where a wrong file was named.
    Seen::read(bundle, keys)?;
    let bytes = read(bundle)?;
    let signature = match regular::read(&beside(bundle), regular::TEXT) {
        Ok(signature) => Some(signature),
        Err(Unread::Io(e)) if e.kind() == ErrorKind::NotFound => None,
        Err(why) => return Err(InstallError::Unread { path: beside(bundle), why }),
    };

    let bundles = folder.join(BUNDLES);
    let new: Vec<&Path> = [folder, &bundles].into_iter().filter(|path| std::fs::symlink_metadata(path).is_err()).collect();
    io("cannot be made", &bundles, std::fs::create_dir_all(&bundles))?;
    new.into_iter().for_each(own_as_around);
    let _lock = lock(folder)?;
    let staged = Staged::write(&bundles, &bytes, signature.as_deref())?;
    drop(bytes);

    let copy = read(&staged.path)?;
    let (path, at_copy) = (bundle, &staged.path);
    let new = Bundle::read(&copy).map_err(|why| InstallError::Bundle { path: at_copy.clone(), why })?;
    let signed = keys.check(at_copy, &copy, &new.contract);
    let signed = signed.map_err(|why| InstallError::Signature { path: path.into(), why })?;
    let [mut old, back] = [CURRENT, PREVIOUS].map(|link| Old::of(folder, link));
    // Versions rise, so behind one that was signed stands no other.
    old.is_damaged |= old.hash.is_some() && old.signed.is_none() && back.signed.is_some() && !keys.is_empty();
    if let Some(damaged) = old.damaged(folder, &new).filter(|_| !keys.is_empty() && !options.downgrade) {
        return Err(InstallError::UnknownVersion { path: damaged });
    }
    let restart = old.check(&new, signed.as_ref(), options)?;
    let trial = trial(&new).map_err(|why| InstallError::Trial { path: path.into(), why })?;

    let current = Hex(&new.sha256).to_string();
    let file = staged.keep(&format!("{current}.tagpin"))?;
    // The same bundle again, with another signature perhaps, or one that was damaged: what lies
    // behind it stays, and a damaged one is nothing to go back to.
    if old.target.as_ref() != Some(&file) {
        if let Some(target) = old.target.as_ref().filter(|_| !old.is_damaged) {
            link(folder, PREVIOUS, target)?;
        }
        link(folder, CURRENT, &file)?;
    }
    sweep(folder);
    // The same bundle may have been mended. A count that stays is one of starts that did fail.
    _ = super::forget_failed_starts(folder);
    let previous = Old::of(folder, PREVIOUS).hash;
    Ok(Changed { current, signed, before: old.hash, previous, restart, trial })
}

/// Exchanges the current bundle of `folder` and the one before it, which must pass `trial` again.
pub fn roll_back<T>(
    folder: &Path,
    keys: &Keys,
    options: Options,
    trial: impl FnOnce(&Bundle<'_>) -> Result<T, String>,
) -> Result<Changed<T>, InstallError> {
    can_be_listed(folder)?;
    if !folder.join(CURRENT).is_symlink() && !folder.join(PREVIOUS).is_symlink() {
        return Err(InstallError::NotInstalled { folder: folder.into() });
    }
    let _lock = lock(folder)?;
    let (now, back) = (Old::of(folder, CURRENT), Old::of(folder, PREVIOUS));
    let Some(target) = back.target.filter(|target| now.target.as_ref() != Some(target)) else {
        return Err(InstallError::NoPrevious { folder: folder.into() });
    };
    let path = folder.join(&target);
    let bytes = read(&path)?;
    let bundle = Bundle::read(&bytes).map_err(|why| InstallError::Bundle { path: path.clone(), why })?;
    let signed = keys.check(&path, &bytes, &bundle.contract);
    let signed = signed.map_err(|why| InstallError::Signature { path: path.clone(), why })?;
    let restart = now.check(&bundle, signed.as_ref(), Options { downgrade: true, ..options })?;
    let trial = trial(&bundle).map_err(|why| InstallError::Trial { path: path.clone(), why })?;
    link(folder, CURRENT, &target)?;
    if let Some(left) = &now.target {
        link(folder, PREVIOUS, left)?;
    }
    sweep(folder);
    let current = Hex(&bundle.sha256).to_string();
    Ok(Changed { current, signed, before: now.hash.clone(), previous: now.hash, restart, trial })
}

/// Lets `current` lead back to the bundle `to`, which a line runs again, where it still leads to
/// `from` and `previous` to `to`: hashes. Nothing is tried, because `to` ran until `from` came.
pub fn go_back(folder: &Path, from: &str, to: &str) -> Result<(), InstallError> {
    let _lock = lock(folder)?;
    let [left, back] = [CURRENT, PREVIOUS].map(|link| Old::of(folder, link));
    let is = |found: &Old, hash: &str| found.hash.as_deref() == Some(hash);
    let (Some(left), Some(back)) =
        (left.target.clone().filter(|_| is(&left, from)), back.target.clone().filter(|_| is(&back, to)))
    else {
        return Err(InstallError::Moved { folder: folder.into() });
    };
    link(folder, CURRENT, &back)?;
    link(folder, PREVIOUS, &left)
}

/// A bundle that a link leads to, as far as it can be read.
struct Old {
    /// Where the link leads, from the folder.
    target: Option<PathBuf>,
    hash: Option<String>,
    bytes: Vec<u8>,
    signed: Option<Signed>,
    /// It is there, and it or its signature cannot be read.
    is_damaged: bool,
}

impl Old {
    fn of(folder: &Path, link: &str) -> Self {
        let target = std::fs::read_link(folder.join(link)).ok();
        let file = target.as_ref().map(|target| folder.join(target));
        let bytes = file.as_ref().and_then(|file| regular::read(file, regular::BUNDLE).ok()).unwrap_or_default();
        let bundle = Bundle::read(&bytes).ok();
        // Whether a key that is installed today made it is not asked: its version counts all the
        // same.
        let stated = match (&bundle, &file) {
            (Some(bundle), Some(file)) => Keys::default().check(file, &bytes, &bundle.contract).ok(),
            (None, Some(_)) => None,
            (_, None) => Some(None),
        };
        let hash = bundle.map(|b| Hex(&b.sha256).to_string());
        Self { target, hash, bytes, is_damaged: stated.is_none(), signed: stated.flatten() }
    }

    /// Its file where that is damaged and `new` is not the same bundle again: a file is called by
    /// its bundle's hash.
    fn damaged(&self, folder: &Path, new: &Bundle<'_>) -> Option<PathBuf> {
        let target = self.target.as_ref().filter(|_| self.is_damaged)?;
        let is_same = target.file_stem().is_some_and(|stem| *stem == *Hex(&new.sha256).to_string());
        (!is_same).then(|| folder.join(target))
    }

    /// Whether `new` may take this one's place; in what the line must be restarted for it.
    fn check(&self, new: &Bundle<'_>, signed: Option<&Signed>, options: Options) -> Result<Vec<Difference>, InstallError> {
        let Ok(old) = Bundle::read(&self.bytes) else { return Ok(Vec::new()) };
        let found = signed.map(|s| s.version);
        let current = self.signed.as_ref().map(|s| s.version);
        let same = old.sha256 == new.sha256;
        let rises = found > current || (same && found == current) || current.is_none();
        if let (false, Some(current)) = (rises || options.downgrade, current) {
            return Err(InstallError::Version { found, current });
        }
        let differs = differences(&old.contract, &new.contract);
        if differs.is_empty() || options.restart { Ok(differs) } else { Err(InstallError::Restart { differs }) }
    }
}

/// Gives what was just made to the owner of the folder around it: a line that does not run as root
/// may then go back by itself where root installed. Whoever is not root owns it as it is.
fn own_as_around(path: &Path) {
    if let Some([owner, group]) = owner_around(path) {
        _ = std::os::unix::fs::lchown(path, Some(owner), Some(group));
    }
}

/// Lets whoever may list the folder around `path` read the new `file`, whatever the umask of who
/// installs: a line that runs as somebody else must be able to read its bundle.
fn read_as_around(file: &File, path: &Path) {
    if let Some(around) = about_around(path) {
        _ = std::os::unix::fs::fchown(file, Some(around.uid()), Some(around.gid()));
        _ = file.set_permissions(Permissions::from_mode(0o600 | around.mode() & 0o444));
    }
}

/// Owner and group of the folder that holds `path`.
fn owner_around(path: &Path) -> Option<[u32; 2]> {
    about_around(path).map(|about| [about.uid(), about.gid()])
}

/// What is known of the folder that holds `path`.
fn about_around(path: &Path) -> Option<Metadata> {
    let parent = path.parent()?;
    std::fs::metadata(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).ok()
}

/// Holds the folder for one change, as long as the file lives.
fn lock(folder: &Path) -> Result<File, InstallError> {
    let path = folder.join(LOCK);
    // Opening a pipe in its place would wait for a reader.
    let opened = || match path.metadata() {
        Ok(about) if !about.is_file() => Err(std::io::Error::other("is no regular file; remove it")),
        _ => File::options().write(true).open(&path),
    };
    let file = match opened() {
        Err(e) if e.kind() == ErrorKind::NotFound => match File::options().write(true).create_new(true).open(&path) {
            Ok(new) => {
                if let Some([owner, group]) = owner_around(&path) {
                    _ = std::os::unix::fs::fchown(&new, Some(owner), Some(group));
                }
                Ok(new)
            }
            // By another process, meanwhile.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => opened(),
            Err(e) => Err(e),
        },
        outcome => outcome,
    };
    let file = io("cannot be written", &path, file)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(InstallError::Busy { folder: folder.into() }),
        Err(TryLockError::Error(error)) => Err(InstallError::Io { step: "cannot be locked", path, error }),
    }
}

/// A copy of bundle and signature that is not installed; removed unless it is kept.
struct Staged {
    path: PathBuf,
    kept: bool,
}

impl Staged {
    /// Writes both through to the disk.
    fn write(bundles: &Path, bytes: &[u8], signature: Option<&[u8]>) -> Result<Self, InstallError> {
        let staged = Self { path: bundles.join(STAGED), kept: false };
        staged.remove();
        let write = |path: &Path, bytes: &[u8]| {
            let write = || {
                let mut file = File::options().write(true).create_new(true).open(path)?;
                read_as_around(&file, path);
                file.write_all(bytes)?;
                file.sync_all()
            };
            io("cannot be written", path, write())
        };
        write(&staged.path, bytes)?;
        signature.map(|signature| write(&beside(&staged.path), signature)).transpose()?;
        Ok(staged)
    }

    /// Gives both their name, the signature first: a bundle is never without it. Returns the
    /// bundle's path from the folder.
    fn keep(mut self, name: &str) -> Result<PathBuf, InstallError> {
        let bundles = self.path.parent().expect("it lies in the folder of bundles");
        let file = bundles.join(name);
        let (from, to) = (beside(&self.path), beside(&file));
        match std::fs::rename(&from, &to) {
            Err(e) if e.kind() == ErrorKind::NotFound => _ = std::fs::remove_file(&to),
            outcome => io("cannot be renamed", &from, outcome)?,
        }
        io("cannot be renamed", &self.path, std::fs::rename(&self.path, &file))?;
        sync(bundles)?;
        self.kept = true;
        Ok(Path::new(BUNDLES).join(name))
    }

    fn remove(&self) {
        _ = std::fs::remove_file(&self.path);
        _ = std::fs::remove_file(beside(&self.path));
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.kept {
            self.remove();
        }
    }
}

/// Lets the link `name` lead to `target`, in one step and written through to the disk.
fn link(folder: &Path, name: &str, target: &Path) -> Result<(), InstallError> {
    let (new, at) = (folder.join(LINK), folder.join(name));
    _ = std::fs::remove_file(&new);
    io("cannot be written", &new, std::os::unix::fs::symlink(target, &new))?;
    io("cannot be replaced", &at, std::fs::rename(&new, &at))?;
    sync(folder)
}

/// Writes the names in a folder through to the disk.
pub(super) fn sync(folder: &Path) -> Result<(), InstallError> {
    io("cannot be written through to the disk", folder, File::open(folder).and_then(|f| f.sync_all()))
}

/// Whether a change gave a file of `bundles/` its name: a bundle's hash, or one that is staged.
fn is_own(name: &str) -> bool {
    let stem = name.strip_suffix(".minisig").unwrap_or(name);
    let hash = stem.strip_suffix(".tagpin").unwrap_or_default();
    stem == STAGED || hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Removes bundles that no link leads to; what somebody else put there stays. What cannot be removed
/// is removed by a later change.
fn sweep(folder: &Path) {
    let used = [CURRENT, PREVIOUS].map(|link| std::fs::read_link(folder.join(link)).ok());
    let used: Vec<PathBuf> = used.into_iter().flatten().flat_map(|target| [beside(&target), target]).collect();
    let Ok(listing) = std::fs::read_dir(folder.join(BUNDLES)) else { return };
    for entry in listing.flatten() {
        let name = entry.file_name();
        let is_used = used.contains(&Path::new(BUNDLES).join(&name));
        if !is_used && name.to_str().is_some_and(is_own) {
            _ = std::fs::remove_file(entry.path());
        }
    }
}
