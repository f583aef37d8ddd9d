//! `tagpin serve`: predictions by HTTP, for clients of Custom Vision and Computer Vision and for
//! anything that can POST.

use super::{Model, Refused};
use crate::classify::ImageClassifier;
use crate::engine::Engine;
use crate::keys::{KeyHash, Keys};
use crate::pictures::Budget;
use crate::site::access::Access;
use crate::site::http::{Limits, Server};
use crate::site::predict::{Endpoint, Rules, Served};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Arguments of `serve`.
#[derive(clap::Args, Debug)]
pub(super) struct Serve {
    /// Bundles, each as FILE or NAME=FILE; clients name one as the published iteration, and the
    /// first if they name none
    #[arg(required = true)]
    bundles: Vec<String>,
    /// Address and port; port 0 is a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Hash of a key that clients must show, as `tagpin key new` prints it; may be given several
    /// times
    #[arg(long = "key", value_name = "HASH")]
    keys: Vec<KeyHash>,
    /// Name that clients without a key may know this machine by, besides its addresses and
    /// localhost
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Let everybody who can reach the address ask, without a key
    #[arg(long)]
    open: bool,
    /// Thresholds, review bands and actions of this device.toml instead of the bundles'
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Images that are decoded and classified at a time [default: one a core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    engines: Option<u16>,
    /// Requests that wait for that; one above is told 503
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(0..=4096))]
    queue: u16,
    /// Connections at a time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// Largest image that is taken, in MB
    #[arg(long, default_value_t = 4, value_name = "MB", value_parser = clap::value_parser!(u16).range(1..=256))]
    image_mb: u16,
    /// Most memory that decoding one image may take, in MB
    #[arg(long, value_name = "MB", default_value_t = 96, value_parser = clap::value_parser!(u64).range(1..=4096))]
    picture_mb: u64,
}

/// A bundle as it was named: `NAME=FILE`, or `FILE` alone.
fn named(text: &str) -> (Option<&str>, &Path) {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !name.contains(['/', '.']) => (Some(name), Path::new(file)),
        _ => (None, Path::new(text)),
    }
}

fn served(text: &str, settings: Option<&Path>, engines: usize) -> Result<Served, Refused> {
    let (name, file) = named(text);
    let model = Model::read(Some(file))?;
    let bundle = model.bundle()?;
    let engine = Engine::from_bundle(&bundle).map_err(|e| format!("bundle {}: {e}", file.display()))?;
    // Of several bundles each has tags of its own, so a key may be wrong for one of them only.
    let of_bundle = |problem| format!("bundle {}: {problem}", file.display());
    let settings =
        super::settings(settings, &bundle, false).map_err(|e| Refused(e.0.into_iter().map(of_bundle).collect()))?;
    let classifier = ImageClassifier::new(&bundle, engine, &settings)?;
    Ok(Served::new(name.unwrap_or(bundle.contract.name).into(), &bundle, classifier, engines))
}

/// Every model, or every problem.
fn models(args: &Serve, engines: usize) -> Result<Vec<Served>, Refused> {
    let (mut models, mut problems) = (Vec::<Served>::new(), Vec::new());
    for text in &args.bundles {
        match served(text, args.settings.as_deref(), engines) {
            Ok(model) if models.iter().any(|m| m.name().eq_ignore_ascii_case(model.name())) => {
                problems.push(format!("two bundles are called \"{}\"; give one another name as NAME=FILE", model.name()));
            }
            Ok(model) => models.push(model),
            Err(Refused(more)) => problems.extend(more),
        }
    }
    if !args.listen.ip().is_loopback() && args.keys.is_empty() && !args.open {
        problems.push(format!(
            "--listen {}: other machines reach this address, so it needs a key: `tagpin key new`, then --key HASH; or --open \
             to let everybody ask",
            args.listen
        ));
    }
    if problems.is_empty() { Ok(models) } else { Err(Refused(problems)) }
}

pub(super) fn run(args: &Serve) -> Result<u8, Refused> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let engines = args.engines.map_or(cores, usize::from);
    let models = models(args, engines)?;
    let names: Vec<String> = models.iter().map(|m| m.name().to_string()).collect();
    let rules = Rules {
        access: Access { keys: Keys(args.keys.clone()), hosts: args.hosts.clone() },
        image_bytes: (args.image_mb as usize) << 20,
        decode: Budget::megabytes(args.picture_mb),
        engines,
        queue: args.queue as usize,
        patience: Duration::from_secs(10),
    };
    let limits = Limits { connections: args.connections as usize, ..Limits::default() };
    let refused = |e: std::io::Error| format!("--listen {}: {e}; choose another address or port", args.listen);
    let server = Server::bind(args.listen, limits).map_err(refused)?;
    let stop = super::signals::flag(&[])?;
    let who = if args.keys.is_empty() { "no key needed" } else { "with a key" };
    println!("serving {} at http://{} ({who}; {engines} at a time)", names.join(", "), server.address()?);
    let _ = std::io::stdout().flush();
    let endpoint = Arc::new(Endpoint::new(models, rules));
    server.serve(endpoint.clone(), &stop);
    let answered = endpoint.answered();
    println!(
        "served {} predictions; {} refused, {} told to come back (503), {} failed",
        answered.predicted.load(Relaxed),
        answered.refused.load(Relaxed),
        answered.full.load(Relaxed),
        answered.failed.load(Relaxed)
    );
    Ok(0)
}
