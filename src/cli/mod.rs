//! The command line: arguments in, exit code out.
//!
//! Each command opens what it needs and reports every problem at once; none decides anything that
//! the library does not.

mod audit;
mod bench;
mod bundle;
mod cameras;
mod capture;
mod check;
mod classify;
mod conflicts;
mod entered;
mod first_frames;
mod inspect;
#[cfg(feature = "site")]
mod keep;
#[cfg(feature = "site")]
mod key;
mod locks;
mod opening;
#[cfg(feature = "site")]
mod recipe;
mod run;
#[cfg(feature = "site")]
mod serve;
mod setup;
mod signals;
mod simulate;
mod starts;
mod update;
mod waiting;

use crate::bundle::{Bundle, Hex};
use crate::decide::{Role, TagRule};
use crate::installed::{Keys, Signed};
use crate::settings::{Draft, ModelTags, Settings, SettingsError};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXIT_CODES: &str = "Exit codes: 0 done, or stopped by a signal with outputs safe; 1 ran and refused; \
2 could not start; 3 stopped on a held fault, or outputs are not known to be safe; 101 panic; \
141 output pipe closed. The summary names outputs that are not known to be safe.";

#[derive(Parser)]
#[command(name = "tagpin", version, about = "Camera frames in, GPIO outputs out, an int8 classifier in between", after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a line: source, model, outputs (the default; without arguments the built-in
    /// demonstration)
    Run(run::Run),
    /// Classify image files
    Classify(classify::Classify),
    /// Check bundle, settings, camera, lines and permissions; report every problem at once
    Check(check::Check),
    /// Show a bundle's contract and where each node of its graph runs
    Inspect(inspect::Inspect),
    /// Verify, install and roll back bundles on the device; `tagpin-tools bundle` signs them
    Bundle(bundle::BundleArgs),
    /// Time a model: one warm-up, exactly --iters inferences
    Bench(bench::Bench),
    /// Run device.toml on a simulated belt: timeline, utilisation, and the fastest line that this
    /// model can sort
    Simulate(simulate::Simulate),
    /// Serve predictions by HTTP: Custom Vision's and Computer Vision's clients, and POST /classify
    #[cfg(feature = "site")]
    Serve(serve::Serve),
    /// Draw a key for who may ask, and print the hash that is kept of it
    #[cfg(feature = "site")]
    Key(key::Key),
    /// Remove the images of parts that lines have kept ([keep] in device.toml)
    #[cfg(feature = "site")]
    Keep(keep::Keep),
    /// Choose the recipe of device.toml that the line goes by, or list them; a running line changes
    /// when its parts have passed
    #[cfg(feature = "site")]
    Recipe(recipe::RecipeArgs),
    /// Check and show the record of changes: who changed thresholds, bundles and keys, who
    /// acknowledged
    Audit(audit::Audit),
    /// List the cameras of this machine: formats, sizes, controls, and the source string to use
    Cameras(cameras::Cameras),
    /// Take images to tag from a source, full size, as JPEG
    Capture(capture::Capture),
    /// Write a device.toml at the line: asks for camera, pins and trigger, watches five parts pass
    Setup(setup::Setup),
    /// Put the output lines of device.toml into their safe state and exit
    Safe(check::Safe),
    /// Print shell completions
    Completions {
        /// Shell to complete in
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write one for every command
    Man {
        /// Folder that gets a page for each command: tagpin.1, tagpin-run.1 and so on
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
}

/// The shipped model, inside the program: the demonstration works in any folder.
const PARTS: &[u8] = include_bytes!("../../models/parts.tagpin");

/// Problems that stopped a command before it began: printed one a line, exit code 2.
#[derive(Debug)]
struct Refused(Vec<String>);

impl<E: std::fmt::Display> From<E> for Refused {
    fn from(e: E) -> Self {
        Self(vec![e.to_string()])
    }
}

/// A bundle's bytes, kept beside what was read from them.
struct Model {
    path: PathBuf,
    bytes: Cow<'static, [u8]>,
}

impl Model {
    /// The bundle at `path`, or the shipped one if none is named. Of a folder the bundle that is
    /// installed in it.
    fn read(path: Option<&Path>) -> Result<Self, Refused> {
        let Some(path) = path else {
            return Ok(Self { path: "parts.tagpin (shipped)".into(), bytes: Cow::Borrowed(PARTS) });
        };
        let path = &crate::installed::bundle_file(path);
        if path.is_dir() {
            let why = match path.join(crate::installed::CURRENT).exists() {
                true => {
                    "`current` in it is no link, so nobody knows what is installed; copy such folders with their links (cp -a, tar)"
                }
                false => "nothing is installed in it; `tagpin bundle install` does that, or name the file",
            };
            return Err(format!("bundle {}: is a folder, and only regular files are read: {why}", path.display()).into());
        }
        let bytes = crate::regular::read(path, crate::regular::BUNDLE);
        let bytes = bytes.map_err(|e| format!("bundle {}: cannot be read: {e}", path.display()))?.into();
        Ok(Self { path: path.into(), bytes })
    }

    fn bundle(&self) -> Result<Bundle<'_>, Refused> {
        Bundle::read(&self.bytes).map_err(|e| format!("bundle {}: {e}", self.path.display()).into())
    }

    /// What its signature says, where the keys in `folder` trust it; the shipped model needs none.
    fn signed(&self, bundle: &Bundle<'_>, folder: &Path) -> Result<Option<Signed>, Refused> {
        if matches!(self.bytes, Cow::Borrowed(_)) {
            return Ok(None);
        }
        let checked = keys(folder)?.check(&self.path, &self.bytes, &bundle.contract);
        checked.map_err(|e| format!("bundle {}: {e}", self.path.display()).into())
    }
}

/// The keys that this device trusts.
fn keys(folder: &Path) -> Result<Keys, Refused> {
    Ok(Keys::open(folder)?)
}

/// `text` as standard output shows it whole, what goes on `indent` columns in.
fn fitted(text: &str, indent: usize) -> String {
    crate::terminal::fitted(&std::io::stdout(), text, indent)
}

fn hex(hash: &[u8; 32]) -> String {
    Hex(hash).to_string()
}

/// Gives a reader of settings the bundle's tags.
fn model_tags<T>(bundle: &Bundle<'_>, read: impl FnOnce(ModelTags<'_>) -> T) -> T {
    let names: Vec<&str> = bundle.contract.tags.iter().map(|t| t.name).collect();
    let rules: Vec<TagRule> = bundle.contract.tags.iter().map(|t| t.rule).collect();
    let roles: Vec<Role> = bundle.contract.tags.iter().map(|t| t.role).collect();
    read(ModelTags { names: &names, rules: &rules, roles: &roles, categories: bundle.categories })
}

/// Reads settings against a bundle's tags. Without a file: the demonstration's if `demo`, else the
/// plain defaults.
fn settings(file: Option<&Path>, bundle: &Bundle<'_>, demo: bool) -> Result<Settings, SettingsError> {
    model_tags(bundle, |model| match file {
        Some(path) => Settings::open(path, model),
        None if demo => Settings::demo(model),
        None => Ok(Settings::plain(model)),
    })
}

/// The same with one of the file's recipes, whatever is wrong with the file; refuses one that
/// cannot be read at all.
fn draft(file: Option<&Path>, recipe: Option<&str>, bundle: &Bundle<'_>, demo: bool) -> Result<Draft, SettingsError> {
    match file {
        Some(path) => model_tags(bundle, |model| Settings::open_draft(path, recipe, model)),
        None => settings(None, bundle, demo).map(Draft::of),
    }
}

/// Puts what people set while the line ran on top of a draft; its problems are the draft's.
#[cfg(feature = "site")]
fn overridden(draft: &mut Draft, bundle: &Bundle<'_>) -> Option<crate::settings::Overridden> {
    use crate::settings::Overrides;
    let sha256 = hex(&bundle.sha256);
    let applied = model_tags(bundle, |model| Overrides::apply(&mut draft.settings, model, &sha256));
    applied.map_err(|e| draft.problems.extend(e.0)).ok()
}

/// Parses the arguments, runs the command, returns the exit code. `commit` is what the program was
/// built from, empty where that is unknown.
pub fn main(commit: &str) -> ExitCode {
    let features = [("camera", cfg!(feature = "camera")), ("site", cfg!(feature = "site"))];
    let version = crate::version::described(env!("CARGO_PKG_VERSION"), commit, &features);
    let given = Cli::command().long_version(version).get_matches();
    let command = Cli::from_arg_matches(&given).unwrap_or_else(|e| e.exit()).command;
    let command = command.unwrap_or_else(|| Command::Run(run::Run::default()));
    // Beyond a limit on the size of files a write fails, as on a full disk, and is told; the signal
    // would end the program where it stands, with its outputs as they are.
    let beyond = std::sync::Arc::default();
    if let Err(e) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, beyond) {
        crate::terminal::tell(&format!("tagpin: SIGXFSZ cannot be caught: {e}"), 8);
    }
    if !matches!(command, Command::Run(_)) {
        crate::broken_pipe::end_when_reader_leaves();
    }
    let outcome = match command {
        Command::Run(args) => run::run(args),
        Command::Classify(args) => classify::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        #[cfg(feature = "site")]
        Command::Serve(args) => serve::run(&args),
        #[cfg(feature = "site")]
        Command::Key(args) => key::run(&args),
        #[cfg(feature = "site")]
        Command::Keep(args) => keep::run(&args),
        #[cfg(feature = "site")]
        Command::Recipe(args) => recipe::run(args),
        Command::Audit(args) => audit::run(&args),
        Command::Cameras(args) => cameras::run(&args),
        Command::Capture(args) => capture::run(&args),
        Command::Setup(args) => setup::run(args),
        Command::Safe(args) => check::safe(&args),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tagpin", &mut text);
            print!("{}", String::from_utf8_lossy(&text));
            Ok(0)
        }
        Command::Man { out: None } => {
            let mut text = Vec::new();
            let rendered = clap_mangen::Man::new(Cli::command()).render(&mut text);
            rendered.map(|()| print!("{}", String::from_utf8_lossy(&text))).map(|()| 0).map_err(Refused::from)
        }
        Command::Man { out: Some(folder) } => clap_mangen::generate_to(Cli::command(), &folder)
            .map(|()| 0)
            .map_err(|e| format!("--out {}: {e}", folder.display()).into()),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Refused(problems)) => {
            // The exit code says it as well, to whoever closed the pipe.
            problems.iter().for_each(|p| crate::terminal::tell_problem("error", p));
            ExitCode::from(2)
        }
    }
}
