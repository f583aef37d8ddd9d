//! `tagpin setup`: a device.toml for a line, from a conversation at that line.
//!
//! It asks for the camera, the trigger and the gate's pin, which it pulses; watches five parts pass
//! and shows the frames of each by their offset from the trigger; measures the way to the gate by
//! pulsing; writes the file and checks it. Whatever ends it, the output goes back to rest first,
//! and a file is written whole or not at all.

mod ask;
mod gate;
mod watch;

use super::first_frames::{self, Patience};
use super::waiting::Waiting;
use super::{Model, Refused, check};
use crate::gpio::{self, HEADER, Pull, Slope};
use crate::settings::quoted;
use crate::setup::passing::Timing;
use crate::setup::written::{Answers, Output, Pin, Trigger};
use crate::sources::{self, FrameBuffer, Limits, Pacing, Source, SourceSpec};
use crate::supervisor::SystemClock;
use crate::terminal::escaped;
use crate::time::Micros;
use ask::Person;
use gate::Gate;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use watch::Watch;

/// Parts that are watched.
const PARTS: usize = 5;
/// Longest wait for a camera's first frame, and for each of the next ones.
const PATIENCE: Patience = Patience { first: Duration::from_secs(10), further: Duration::from_secs(2) };

/// Arguments of `setup`.
#[derive(clap::Args, Debug)]
pub(super) struct Setup {
    /// File to write; one that is there is left alone
    #[arg(long, value_name = "FILE", default_value = "device.toml")]
    out: PathBuf,
    /// Bundle that the line will run, or the folder of an installed one [default: the shipped parts
    /// model]
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Source, instead of asking for it: camera:, v4l2:, rpicam:, conveyor
    #[arg(long)]
    source: Option<SourceSpec>,
    /// How long the frames after a trigger are watched, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(100..=30_000))]
    within_ms: u64,
    /// Keep the frames of each part in this folder, as JPEG, named by part and offset
    #[arg(long, value_name = "FOLDER")]
    images: Option<PathBuf>,
}

pub(super) fn run(args: Setup) -> Result<u8, Refused> {
    can_begin(&args)?;
    let images = args.images.clone();
    conversation(args).map_err(|e| with_images(e, images.as_deref()))
}

/// Names what was kept meanwhile, which a second try must not find in its folder.
fn with_images(Refused(mut why): Refused, images: Option<&std::path::Path>) -> Refused {
    let Some(folder) = images else { return Refused(why) };
    let kept = std::fs::read_dir(folder).map_or(0, Iterator::count);
    if kept > 0 {
        let name = folder.display();
        why.push(format!("--images {name}: {kept} images are kept there; name another folder next time, or empty it"));
    }
    Refused(why)
}

/// Whether what the end needs is there: known before anybody has spent an hour.
fn can_begin(args: &Setup) -> Result<(), Refused> {
    if args.out.symlink_metadata().is_ok() {
        let why = "is there already and is left alone; name another with --out, or move it away";
        return Err(format!("{}: {why}", args.out.display()).into());
    }
    if args.out.as_os_str().as_encoded_bytes().ends_with(b"/") || args.out.file_name().is_none() {
        return Err(format!("{}: is a folder's name; name a file in it", args.out.display()).into());
    }
    let temporary = args.out.with_file_name(new_name(args.out.file_name().unwrap_or_default()));
    if std::fs::symlink_metadata(&temporary).is_err_and(|e| e.kind() == std::io::ErrorKind::InvalidFilename) {
        return Err(format!("{}: the file's name is too long; name a shorter one", args.out.display()).into());
    }
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
    can_be_written(folder).map_err(|e| format!("{}: cannot be written: {e}", args.out.display()))?;
    Model::read(args.bundle.as_deref())?.bundle()?;
    if let Some(folder) = &args.images {
        let made = std::fs::create_dir_all(folder).and_then(|()| can_be_written(folder));
        made.map_err(|e| format!("--images {}: images cannot be written there: {e}", folder.display()))?;
        if std::fs::read_dir(folder)?.next().is_some() {
            return Err(format!("--images {}: holds something already; name an empty folder", folder.display()).into());
        }
    }
    Ok(())
}

fn conversation(args: Setup) -> Result<u8, Refused> {
    let mut person = Person::new()?;
    person.tell(
        "A device.toml for a line with a gate. Enter takes what stands in [brackets]; Ctrl-C ends it and writes nothing.",
    );
    let Camera { spec, source, max_latency_ms } = camera(&mut person, args.source)?;
    println!("\nThe trigger says that a part is there; it stands before the camera.");
    let trigger = trigger(&mut person, &*source)?;
    let mut taken = Taken::default();
    if let Trigger::Gpio { pin, .. } = &trigger {
        taken.0.push(("the trigger's", pin.clone()));
    }
    println!("\nThe gate throws parts out.");
    if spec.is_drawn() {
        person.tell(&format!(
            "\"{}\" takes no image of what passes, and a run refuses to move GPIO lines by it: take - for none, or begin anew \
             with a camera.",
            spec.text()
        ));
    }
    let mut gate = gate::asked(&mut person, &taken)?;
    taken.0.extend(gate.output.pin.clone().map(|pin| ("the gate's", pin)));
    println!("\nAn output that is active while the line works lets the belt stop when it does not.");
    if gate.output.pin.is_some() {
        person.tell(
            "The gate is wired: without a ready line `check` reports a problem, since parts pass unsorted after a fault.",
        );
    }
    let ready = ready(&mut person, &taken)?;

    let latency = Micros(max_latency_ms.unwrap_or(0) * 1000);
    let mut watch = Watch::new(source, latency, &trigger, Micros(args.within_ms * 1000), args.images)?;
    let timing = watched(&mut person, &mut watch, &trigger)?;
    if let Some(nearest) = watch.nearest_parts() {
        gate.fitted(&mut person, nearest)?;
    }
    println!();
    person.tell(&format!(
        "In the middle {} ms after the trigger: to_camera_ms = {}, deadline_ms = {}.",
        timing.offsets_ms(),
        timing.to_camera_ms(),
        timing.deadline_ms()
    ));
    let delay_ms = gate.measured(&mut person, &mut watch, timing.deadline_ms())?;
    let Gate { output, width_ms, .. } = gate.at_rest()?;

    let answers =
        Answers { source: spec.text().into(), trigger, max_latency_ms, timing, gate: output, width_ms, delay_ms, ready };
    drop(watch);
    write(&args.out, &answers.device_toml())?;
    println!("\nwritten  {}; what it comes to:", escaped(&args.out.display().to_string()));
    check::run(&check::Check::of(args.out, args.bundle))
}

fn can_be_written(folder: &std::path::Path) -> std::io::Result<()> {
    let name = folder.join(format!(".tagpin-setup-{}", std::process::id()));
    std::fs::File::create_new(&name)?;
    std::fs::remove_file(name)
}

/// Where a file is written before it has its name.
fn new_name(file: &std::ffi::OsStr) -> std::ffi::OsString {
    let mut new = file.to_os_string();
    new.push(format!(".{}.new", std::process::id()));
    new
}

/// A new file, whole or not at all.
fn write(file: &std::path::Path, text: &str) -> Result<(), Refused> {
    let told = |e: std::io::Error| {
        // As it is: what is told as an error is broken where the terminal's lines end.
        println!("\n{text}");
        let why = match e.kind() {
            std::io::ErrorKind::AlreadyExists => "it came meanwhile and is left alone".to_string(),
            _ => e.to_string(),
        };
        format!("{}: {why}; nothing was written. What it would hold stands above", file.display())
    };
    let new = new_name(file.as_os_str());
    let written = || {
        let mut beside = std::fs::File::create_new(&new)?;
        beside.write_all(text.as_bytes())?;
        beside.sync_all()?;
        // Nothing that came meanwhile is replaced. A file system without links may know this way
        // alone, and another the links alone.
        match rustix::fs::renameat_with(CWD, &new, CWD, file, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => std::fs::hard_link(&new, file),
            outcome => Ok(outcome?),
        }
    };
    let outcome = written().map_err(told);
    let _ = std::fs::remove_file(&new);
    Ok(outcome?)
}

/// Pins that have a use already, and whose they are.
#[derive(Default)]
struct Taken(Vec<(&'static str, Pin)>);

/// A camera that gives frames.
struct Camera {
    spec: SourceSpec,
    source: Box<dyn Source>,
    /// Longest time from exposure to arrival, where the camera does not say when it exposed.
    max_latency_ms: Option<u64>,
}

fn opened(spec: &SourceSpec) -> Result<Box<dyn Source>, String> {
    if spec.is_stdin() {
        let why = "standard input is where you answer; name another source";
        return Err(format!("\"{}\": {why}", spec.text()));
    }
    let source = sources::open(spec, &(Arc::new(SystemClock) as _), Limits::default()).map_err(|e| e.to_string())?;
    match source.pacing() {
        Pacing::Live => Ok(source),
        Pacing::Pulled => Err(format!("\"{}\": files have no moment; expected a camera, or conveyor", spec.text())),
    }
}

/// Asks for the camera, unless it was given, and takes a frame of it.
fn camera(person: &mut Person, mut given: Option<SourceSpec>) -> Result<Camera, Refused> {
    let cameras = if given.is_none() { sources::cameras().unwrap_or_default() } else { Vec::new() };
    for (i, camera) in cameras.iter().enumerate() {
        println!("  {}  {} ({})", i + 1, escaped(&camera.name), escaped(&camera.path));
    }
    loop {
        let is_given = given.is_some();
        let spec = match given.take() {
            Some(spec) => spec,
            None => {
                let default = if cameras.is_empty() { "conveyor" } else { "1" };
                person.ask("Camera: a number, or a source (camera:PATH, rpicam:..., conveyor)", Some(default), |text| {
                    let listed = text.parse::<usize>().ok().and_then(|n| cameras.get(n.checked_sub(1)?));
                    let text = listed.map_or(text.to_string(), |camera| format!("camera:{}", camera.path));
                    text.parse::<SourceSpec>().map_err(|e| e.to_string())
                })?
            }
        };
        let mut frame = FrameBuffer::empty();
        let waiting = Waiting::new("the first frame", format!("{} s at most, Ctrl-C ends it", PATIENCE.first.as_secs()));
        let first = match opened(&spec) {
            Ok(mut source) => match first_frames::take(&mut *source, &mut frame, &PATIENCE, waiting, || person.stopped())? {
                Ok(_) => Ok(source),
                Err(fault) => Err(format!("\"{}\" opened, but {}", spec.text(), source.explain(&fault))),
            },
            Err(why) => Err(why),
        };
        match first {
            Ok(source) => {
                println!("Frames of {}x{} come.", frame.layout.width, frame.layout.height);
                if frame.captured_at.exposed_from().is_some() {
                    return Ok(Camera { spec, source, max_latency_ms: None });
                }
                person.tell("The camera does not say when a frame was exposed. Its data sheet, or a stopwatch before it, says how old one is.");
                let ms = person.milliseconds("Longest time from exposure to arrival, ms", 100, 10_000)?;
                return Ok(Camera { spec, source, max_latency_ms: Some(ms) });
            }
            Err(why) if is_given => return Err(why.into()),
            Err(why) => person.tell(&why),
        }
    }
}

/// A pin that could be taken, asked for until there is one; `None` where nothing is wired. `taken`:
/// pins of others.
fn pin(person: &mut Person, what: &str, must: bool, taken: &Taken) -> Result<Option<Pin>, Refused> {
    let (none, default) = if must { ("", None) } else { ("; - for none", Some("-")) };
    loop {
        let line = person.ask(&format!("{what}: number or name of the line{none}"), default, |text| {
            if text.is_empty() { Err("expected a line, as 17 or GPIO17".into()) } else { Ok(text.to_string()) }
        })?;
        if !must && line == "-" {
            return Ok(None);
        }
        let question = "  on the chip (\"header\": the 40 pins of a Raspberry Pi)";
        let chip = person.ask(question, Some(HEADER), |text| Ok(text.to_string()))?;
        let is_same = |pin: &Pin| gpio::is_same((&pin.chip, &pin.line), (&chip, &line));
        if let Some((whose, _)) = taken.0.iter().find(|(_, pin)| is_same(pin)) {
            person.tell(&format!("That is {whose} line; choose another."));
            continue;
        }
        match gpio::probe(&chip, &line) {
            Ok(_) => return Ok(Some(Pin { chip, line })),
            Err(why) => person.tell(&why),
        }
    }
}

fn is_low(person: &mut Person) -> Result<bool, Refused> {
    person.choose("  active when it is", &[("high", false), ("low", true)])
}

fn trigger(person: &mut Person, source: &dyn Source) -> Result<Trigger, Refused> {
    let mut kinds =
        vec!["a sensor at a GPIO line", "words on standard input, one a part, from a program of yours; here Enter"];
    if source.has_barrier() {
        kinds.insert(0, "the conveyor's light barrier");
    }
    let chosen = person.pick("Trigger", &kinds)?;
    if source.has_barrier() && chosen == 0 {
        return Ok(Trigger::Barrier);
    }
    if chosen + 1 == kinds.len() {
        let question = "Longest time from the sensor's signal to its word, ms";
        return person.milliseconds(question, 20, 10_000).map(|max_jitter_ms| Trigger::Words { max_jitter_ms });
    }
    loop {
        let pin = pin(person, "Sensor", true, &Taken::default())?.ok_or("a line was asked for")?;
        let slope = person.choose("  a part is there when the line goes", &Slope::WORDS)?;
        let pull = person.choose("  resistor at it", &Pull::WORDS)?;
        let trigger = Trigger::Gpio { pin, slope, pull };
        match watch::seen(person, &trigger) {
            Ok(true) => return Ok(trigger),
            Ok(false) => person.tell("Let us try another line, edge or resistor."),
            Err(e) => return Err(e),
        }
    }
}

fn ready(person: &mut Person, taken: &Taken) -> Result<Option<Output>, Refused> {
    let Some(pin) = pin(person, "Ready", false, taken)? else { return Ok(None) };
    let active_low = is_low(person)?;
    Ok(Some(Output { name: READY.into(), pin: Some(pin), active_low }))
}

/// Watches parts pass, and asks for the frame in which each is in the middle.
fn watched(person: &mut Person, watch: &mut Watch, trigger: &Trigger) -> Result<Timing, Refused> {
    println!("\nNow let {PARTS} parts pass, one at a time, at the belt's own speed.");
    loop {
        let mut offsets: Vec<Micros> = Vec::new();
        while offsets.len() < PARTS {
            println!("\nPart {} of {PARTS}: waiting for its trigger", offsets.len() + 1);
            let part = watch.part(person)?;
            match part.middle(person, &offsets)? {
                Some(offset) => offsets.push(offset),
                None => person.tell(&not_counted(watch.latency())),
            }
        }
        let timing = Timing::new(offsets, watch.interval(), watch.arrival());
        let nearest = watch.nearest().filter(|nearest| timing.min_spacing_ms() * 1000 > nearest.0);
        if timing.is_wide() {
            person.tell(&format!(
                "{} ms: these lie far apart. Was one of them another part, or does the belt change its speed?",
                timing.offsets_ms()
            ));
        }
        match nearest {
            // Nearer than two frames, which hardly a part is.
            Some(nearest) if nearest.0 < 2 * timing.interval.0 => person.tell(&format!(
                "The trigger came twice within {:.1} ms{}",
                nearest.0 as f64 / 1000.0,
                match trigger {
                    Trigger::Gpio { .. } =>
                        ". If that was one part the sensor bounces: state debounce_ms under [trigger] in the file.",
                    _ => ", nearer than two frames: such parts get the late action.",
                }
            )),
            Some(nearest) => person.tell(&format!(
                "Parts came as near as {} ms, and need {} ms to be told from each other: the spread of {} ms and two frames. A \
                 slower belt or more frames a second helps; with these, parts as near get the late action.",
                nearest.0 / 1000,
                timing.min_spacing_ms(),
                timing.offsets_ms()
            )),
            None if timing.is_wide() => {}
            None => return Ok(timing),
        }
        if person.choose("Watch anew, or keep them", &[("anew", false), ("keep", true)])? {
            return Ok(timing);
        }
        watch.anew();
    }
}

/// What is said of a part that is in the middle of no frame. `latency`: as the person stated it.
fn not_counted(latency: Micros) -> String {
    match latency.0 / 1000 {
        0 => "This one is not counted.".into(),
        ms => format!(
            "This one is not counted. Each frame counts as exposed {ms} ms before it arrived, as you stated, and those before \
             the trigger are left out: where the part is past the middle in all, begin anew with a shorter time, or set the \
             camera farther behind the trigger."
        ),
    }
}

/// The name of the output that tells the belt that the line works.
const READY: &str = "ready";

/// How a name is asked for: as device.toml will state it.
fn name_of(text: &str) -> Result<String, String> {
    if text == READY {
        return Err("\"ready\" is the name of the output that the belt waits for; choose another".into());
    }
    let is_name = text.chars().any(char::is_alphanumeric) && !text.contains(char::is_control);
    is_name.then(|| text.to_string()).ok_or_else(|| format!("expected a name with letters, not {}", quoted(text)))
}
