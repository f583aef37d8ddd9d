//! Commands on a packed bundle: keys, signatures, adding a self-test.
//!
//! Secret keys are handled only here; a board only verifies. Keys and signatures have minisign's
//! format: Debian's `minisign` verifies ours, and a board verifies `minisign`'s.

use crate::{distance, pack, run_folder};
use anyhow::{Context, Result, bail, ensure};
use minisign::{KeyPair, PublicKeyBox, SecretKey, SecretKeyBox};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use tagpin::bundle::{Bundle, Hex, Section};
use tagpin::engine::Engine;
use tagpin::installed::{Comment, beside};
use tagpin::regular;

/// Make keys, sign bundles, and give an older bundle a self-test.
#[derive(clap::Args, Clone, Debug)]
pub struct BundleArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Command {
    /// Draw a pair of keys: NAME.key signs and stays here, NAME.pub goes to /etc/tagpin/keys.d of
    /// each device.
    Keygen {
        /// Path of both files without their ending.
        name: PathBuf,
        /// Keep the secret key without a password, for a machine that signs by itself.
        #[arg(long)]
        no_password: bool,
    },
    /// Sign a bundle: writes BUNDLE.minisig beside it.
    Sign {
        /// The bundle.
        bundle: PathBuf,
        /// The secret key that `keygen` made; its password is asked for, if it has one.
        #[arg(long)]
        key: PathBuf,
        /// The bundle's version, 1..=999999999999999; a device takes none below the one that is
        /// installed.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..1_000_000_000_000_000))]
        version: u64,
    },
    /// Write a bundle again with a self-test: three images and the logits that a board must give.
    SelfTest {
        /// The bundle; it needs a new signature afterwards.
        bundle: PathBuf,
        /// Folder of images; without it three are drawn.
        #[arg(long)]
        images: Option<PathBuf>,
        /// Bundle to write.
        #[arg(long)]
        out: PathBuf,
        /// Overwrite an existing bundle.
        #[arg(long)]
        force: bool,
    },
}

/// Runs the subcommand.
pub fn run(args: &BundleArgs) -> Result<()> {
    match &args.command {
        Command::Keygen { name, no_password } => keygen(name, *no_password),
        Command::Sign { bundle, key, version } => sign(bundle, key, *version),
        Command::SelfTest { bundle, images, out, force } => self_test(bundle, images.as_deref(), out, *force),
    }
}

/// `path` with `ending` behind its whole name.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn keygen(name: &Path, no_password: bool) -> Result<()> {
    let (secret, public) = (with_ending(name, ".key"), with_ending(name, ".pub"));
    for path in [&secret, &public] {
        ensure!(!path.exists(), "{} exists, and a key that is lost cannot be made again; name another", path.display());
    }
    let pair = match no_password {
        true => KeyPair::generate_unencrypted_keypair(),
        false => KeyPair::generate_encrypted_keypair(None),
    };
    let pair = pair.context("no key was made")?;
    let write = |path: &Path, mode: u32, text: String| -> Result<()> {
        let file = std::fs::File::options().write(true).create_new(true).mode(mode).open(path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written.with_context(|| format!("{} cannot be written", path.display()))
    };
    write(&secret, 0o600, pair.sk.to_box(Some("tagpin secret key"))?.into_string())?;
    write(&public, 0o644, pair.pk.to_box()?.into_string())?;
    println!("{}  signs bundles: keep it here, and a copy of it in a safe place", secret.display());
    println!("{}  copy it into /etc/tagpin/keys.d of each device", public.display());
    Ok(())
}

fn secret_key(path: &Path) -> Result<SecretKey> {
    let text =
        regular::read_text(path, regular::TEXT).with_context(|| format!("--key {} cannot be read", path.display()))?;
    ensure!(
        PublicKeyBox::from_string(&text).and_then(|text| text.into_public_key()).is_err(),
        "--key {}: this is a public key, which checks signatures; name the secret key that `keygen` made with it, NAME.key",
        path.display()
    );
    let read = || SecretKeyBox::from_string(&text)?.into_unencrypted_secret_key();
    if let Ok(key) = read() {
        return Ok(key);
    }
    let key = SecretKeyBox::from_string(&text).and_then(|text| text.into_secret_key(None));
    key.map_err(|e| anyhow::anyhow!("--key {}: {e}", path.display()))
}

fn sign(path: &Path, key: &Path, version: u64) -> Result<()> {
    let bytes = run_folder::read_file(path, "pack")?;
    let bundle = Bundle::read(&bytes).map_err(|e| anyhow::anyhow!("bundle {}: {e}", path.display()))?;
    let model = bundle.contract.name;
    ensure!(
        !model.chars().any(char::is_control),
        "the model's name has control characters, which no signature can state; pack it under another"
    );
    let comment = Comment { model: model.into(), version }.to_string();
    let key = secret_key(key)?;
    let signature = minisign::sign(None, &key, bytes.as_slice(), Some(&comment), Some("signature from tagpin-tools"));
    let signature = signature.map_err(|e| anyhow::anyhow!("{} is not signed: {e}", path.display()))?;
    let file = beside(path);
    run_folder::write_file(&file, signature.into_string().as_bytes())?;
    println!("{}: {comment}", file.display());
    if bundle.self_test.is_none() {
        println!("note: the bundle has no self-test, so a board cannot compare its logits; `bundle self-test` writes one");
    }
    Ok(())
}

fn self_test(path: &Path, images: Option<&Path>, out: &Path, force: bool) -> Result<()> {
    run_folder::refuse_existing_bundle(out, force)?;
    let bytes = run_folder::read_file(path, "pack")?;
    let bundle = Bundle::read(&bytes).map_err(|e| anyhow::anyhow!("bundle {}: {e}", path.display()))?;
    if bundle.format < 2 {
        bail!("bundle {} is of format 1, which has no self-test; pack the model again", path.display());
    }
    let input = &bundle.contract.input;
    let images = match images {
        Some(folder) => pack::images_of(folder, (input.height.into(), input.width.into()), input.fit)?,
        None => Vec::new(),
    };
    let made = with_self_test(&bundle, &images)?;
    run_folder::write_file(out, &made)?;
    let identity = Hex(&Bundle::read(&made)?.sha256).to_string();
    println!("{} ({} KB, before {} KB): {identity}", out.display(), made.len() / 1024, bytes.len() / 1024);
    Ok(())
}

/// Images of a self-test.
const IMAGES: usize = 3;
/// Seed of those that are drawn.
const SEED: u64 = 6;

/// The bytes of `bundle` with a self-test of the first of `images`, each at the model's input size;
/// drawn where there are none. A self-test that it has is replaced.
pub fn with_self_test(bundle: &Bundle<'_>, images: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut engine = Engine::from_bundle(bundle)?;
    let len = engine.spec().input.iter().product();
    let drawn = || tagpin::engine::proof::drawn(len, IMAGES, SEED).into_iter();
    let images: Vec<Vec<u8>> = match images {
        [] => drawn().map(|codes| codes.into_iter().map(|code| code as u8 ^ 128).collect()).collect(),
        images => images.iter().take(IMAGES).cloned().collect(),
    };
    let section = engine.self_test_section(&bundle.contract, &images)?;
    let others = bundle.sections().filter_map(|e| distance::kept(bundle, e, &[Section::SelfTest]));
    let mut extra: Vec<(Section, &[u8])> = others.collect();
    extra.push((Section::SelfTest, &section));
    let made = tagpin::bundle::write(&bundle.contract, bundle.graph, &extra)?;
    {
        let read = Bundle::read(&made)?;
        Engine::from_bundle(&read)?.self_test(&read)?;
    }
    Ok(made)
}
