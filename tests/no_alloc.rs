//! From captured frame to output nothing is allocated, once every buffer has its size: conveyor,
//! Y4M, camera program.
//!
//! Direct V4L2 is measured where there is a camera; nokhwa and image decoding allocate and say
//! so.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tagpin::board::Board;
use tagpin::bundle::Bundle;
use tagpin::decide::{Decision, Role, TagRule, TagSet};
use tagpin::engine::Engine;
use tagpin::events::run::Opening;
use tagpin::events::sinks::Sink;
use tagpin::events::{
    EdgeEvent, Event, Events, Image, Latency, Outcome, PartEvent, QUEUE, Remedy, Sinking, TriggerEvent, What, Why,
};
use tagpin::fault::Reason;
use tagpin::frame::CapturedAt;
use tagpin::head::{Score, TagId};
use tagpin::line::Moment;
use tagpin::outputs::{Output, State, WriteError};
use tagpin::settings::{ModelTags, Settings};
use tagpin::sources::{self, FrameBuffer, Limits};
use tagpin::station::{Effect, Input, Station};
use tagpin::supervisor::actuation::{Actuator, Command, EdgeRules};
use tagpin::supervisor::vision::Vision;
use tagpin::supervisor::{Beside, Run, SystemClock, run};
use tagpin::time::{Clock, Instant, Micros};
use tagpin::triggers;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed to the system's allocator unchanged; counting touches only a
// thread-local number.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most edges that are looked at.
const LOOKS: usize = 4000;
/// What the thread that moved a pin had allocated by each of its edges.
static ALLOCATED: [AtomicU64; LOOKS] = [const { AtomicU64::new(0) }; LOOKS];
static EDGES: AtomicUsize = AtomicUsize::new(0);

/// A pin that looks at the thread that moves it. Each fiftieth write fails, so that ways to safety
/// are among the edges.
struct Looking;

impl Output for Looking {
    fn apply(&mut self, _: State) -> Result<(), WriteError> {
        let edge = EDGES.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = ALLOCATED.get(edge) {
            place.store(COUNT.get(), Ordering::Relaxed);
        }
        if edge % 50 == 49 { Err(WriteError::Drill) } else { Ok(()) }
    }

    fn second(&self) -> Box<dyn Output> {
        Box::new(Self)
    }
}

/// A pin that is nowhere.
struct Still;

impl Output for Still {
    fn apply(&mut self, _: State) -> Result<(), WriteError> {
        Ok(())
    }

    fn second(&self) -> Box<dyn Output> {
        Box::new(Self)
    }
}

/// A sink that takes everything.
struct Taking;

impl Sink for Taking {
    fn write(&mut self, _: &Events, _: &Event) -> std::io::Result<()> {
        Ok(())
    }
}

/// The real thread in a real run: pulses, levels, lines of health and their heartbeat, late parts,
/// failed writes.
#[test]
fn the_thread_of_the_outputs_allocates_nothing_while_edges_move() {
    let bytes = include_bytes!("../models/parts.tagpin");
    let bundle = Bundle::read(bytes).unwrap();
    let names: Vec<&str> = bundle.contract.tags.iter().map(|t| t.name).collect();
    let rules: Vec<TagRule> = bundle.contract.tags.iter().map(|t| t.rule).collect();
    let roles: Vec<Role> = bundle.contract.tags.iter().map(|t| t.role).collect();
    let every = "on = [\"accept\", \"reject\", \"review\", \"unknown\"]";
    let text = format!(
        "[source]\nopen = \"conveyor?seed=7&fps=60\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\nperiod_ms = 20\n\
         [outputs.pulse]\nmode = \"pulse\"\nwidth_ms = 8\ndelay_ms = 200\n{every}\n[outputs.level]\ndelay_ms = 60\n{every}\n\
         [outputs.early]\nmode = \"pulse\"\nwidth_ms = 1\ndelay_ms = 1\n{every}\n\
         [outputs.busy]\non = [\"busy\"]\n[outputs.ready]\non = [\"ready\"]\n[outputs.alive]\non = [\"heartbeat\"]\nperiod_ms = 20\n"
    );
    let settings =
        Settings::parse(&text, "test", ModelTags { names: &names, rules: &rules, roles: &roles, categories: None }).unwrap();
    let clock = Arc::new(SystemClock) as Arc<dyn Clock>;
    let source = sources::open(&settings.source.parse().unwrap(), &clock, Limits::default()).unwrap();
    let (late, late_calls) = settings.routing(bundle.contract.task).late();
    let signalled = Arc::new(AtomicBool::new(false));
    let stop = signalled.clone();
    let watcher = std::thread::spawn(move || {
        let begin = std::time::Instant::now();
        while EDGES.load(Ordering::Relaxed) < 600 && begin.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let ended = run(Run {
        vision: Vision::new(&bundle, Box::new(Engine::from_bundle(&bundle).unwrap()), &settings, source.pacing()),
        station: Station::new(settings.station(bundle.contract.task, 0)).unwrap(),
        tags: names.iter().map(ToString::to_string).collect(),
        source,
        inputs: settings.inputs.iter().map(|i| triggers::open(i, &clock, &Default::default()).unwrap()).collect(),
        actuator: Actuator::open(&settings.outputs, late_calls, late, EdgeRules::of(&settings), |_| Ok(Box::new(Looking)))
            .unwrap(),
        settings,
        opening: Opening::default(),
        sinks: vec![Sinking { name: "all", wants: Box::new(|_| true), queue: QUEUE, make: Box::new(|| Box::new(Taking)) }],
        clients: Vec::new(),
        beside: Beside::default(),
        signalled,
        record: None,
        board: Board::default(),
        reader_left: || false,
        goes_on_unread: false,
    });
    watcher.join().unwrap();
    assert_eq!(ended.map(|e| e.exit_code()), Ok(0));
    let edges = EDGES.load(Ordering::Relaxed).min(LOOKS);
    assert!(edges >= 600, "{edges} edges");
    let allocated: Vec<u64> = ALLOCATED[..edges].iter().map(|n| n.load(Ordering::Relaxed)).collect();
    assert!(allocated.iter().all(|n| *n == allocated[0]), "the first edge and what follows: {allocated:?}");
}

/// Allocations of the whole line over `frames` frames, after as many to warm up.
fn allocations(source: &str, frames: usize) -> u64 {
    let bundle = Bundle::read(include_bytes!("../models/parts.tagpin")).unwrap();
    let names: Vec<&str> = bundle.contract.tags.iter().map(|t| t.name).collect();
    let rules: Vec<TagRule> = bundle.contract.tags.iter().map(|t| t.rule).collect();
    let text = "[decide]\nn = 3\nk = 2\n[outputs.a]\non = [\"accept\"]\nmode = \"pulse\"\nwidth_ms = 1\n[outputs.b]\non = [\"reject\"]\n";
    let roles: Vec<Role> = names.iter().map(|_| Role::Other).collect();
    let settings =
        Settings::parse(text, "test", ModelTags { names: &names, rules: &rules, roles: &roles, categories: None }).unwrap();
    let clock = SystemClock;
    let mut source = sources::open(&source.parse().unwrap(), &(Arc::new(clock) as _), Limits::default()).unwrap();
    assert!(!source.allocates());
    let engine = Engine::from_bundle(&bundle).unwrap();
    let mut vision = Vision::new(&bundle, Box::new(engine), &settings, source.pacing());
    let mut station = Station::new(settings.station(bundle.contract.task, 0)).unwrap();
    let mut actuator =
        Actuator::open(&settings.outputs, 0, None, EdgeRules::of(&settings), |_| Ok(Box::new(Still))).unwrap();
    let input = &bundle.contract.input;
    let opening = Opening { image: [input.width as u32, input.height as u32], ..Opening::default() };
    let (events, _sinks) = Events::start(Arc::new(clock), opening, Vec::new()).unwrap();
    let mut frame = FrameBuffer::empty();
    let mut before = 0;
    for i in 0..2 * frames {
        if i == frames {
            before = COUNT.get();
        }
        source.next(&mut frame, Duration::from_secs(5)).unwrap();
        let now = clock.now();
        let at = frame.captured_at.or_arrival();
        let (_, print) = vision.look(&frame).unwrap();
        let mut wanted = None;
        let seen = Input::Frame { captured_at: at, shows: None, print };
        station.step(Moment::at(now), seen, &mut |effect| {
            if let Effect::Classify(ticket) = effect {
                wanted = Some(ticket);
            }
        });
        let ticket = wanted.expect("every frame is a part");
        vision.preprocess(&frame).unwrap();
        vision.infer().unwrap();
        let (rgb, _, scores) = vision.last();
        events.snapshot().show_image(ticket.part().id.0, now, rgb, scores);
        let scores = Input::Scores { ticket, scores: vision.scores(), beyond: false };
        station.step(Moment::at(clock.now()), scores, &mut |effect| {
            if let Effect::Decided(done) = effect {
                let command = Command::Now { part: done.part.id, calls: done.calls, at: clock.now() };
                actuator.apply(command, &clock, &events);
            }
        });
        actuator.tick(0, &clock, &events);
    }
    let after = COUNT.get() - before;
    assert!(events.snapshot().image(|shown| shown.part) > frames as u64, "the last image is shown");
    after
}

#[test]
fn the_steady_frame_loop_allocates_nothing() {
    let folder = std::env::temp_dir().join(format!("tagpin-no-alloc-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let y4m = folder.join("no_alloc.y4m");
    let mut bytes = b"YUV4MPEG2 W160 H120 F30:1 C420jpeg\n".to_vec();
    for i in 0..20u8 {
        bytes.extend(b"FRAME\n");
        bytes.extend(vec![i * 9; 160 * 120 * 3 / 2]);
    }
    std::fs::write(&y4m, bytes).unwrap();
    let script = folder.join("no_alloc_camera.sh");
    std::fs::write(&script, "#!/bin/sh\nexec cat /dev/urandom\n").unwrap();
    let mut permissions = std::fs::metadata(&script).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&script, permissions).unwrap();
    for source in [
        "conveyor?fps=200".to_string(),
        format!("y4m:{}", y4m.display()),
        format!("rpicam:?width=128&height=96&metadata=0&program={}", script.display()),
    ] {
        assert_eq!(allocations(&source, 10), 0, "{source}");
    }
    if cfg!(feature = "camera") && std::path::Path::new("/dev/video0").exists() {
        assert_eq!(allocations("v4l2:/dev/video0?width=640&height=360", 10), 0, "v4l2");
        eprintln!("v4l2: /dev/video0 was measured");
    } else {
        eprintln!("skipped: v4l2 needs a build with cameras and /dev/video0");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The queue is full after a thousand of them: what is lost must not allocate either.
#[test]
fn telling_what_happens_allocates_nothing() {
    let events = Events::kept(Arc::new(SystemClock));
    let image = Image { captured_at: CapturedAt::Unknown { at: Instant::from_micros(5) }, sequence: 7 };
    let part = PartEvent {
        part: 1,
        trigger: Instant::from_micros(4),
        images: [image; 16].into_iter().collect(),
        captured_at: Instant::from_micros(5),
        top: [(TagId(0), Score(9)); 3].into_iter().collect(),
        decision: Decision::safe(Reason::Engine),
        action: None,
        late: false,
        counted: TagSet::EMPTY,
        age: Micros(6),
        latency: Latency::default(),
        bundle: [0; 32],
        truth: None,
        right: None,
    };
    let before = COUNT.get();
    for number in 0..2000 {
        let trigger = Instant::from_micros(number);
        events.tell(What::Trigger(TriggerEvent { part: number, trigger, position: 0, touching: false }));
        events.part(part.clone(), &[Score(9); 8]);
        let edge = EdgeEvent {
            part: number,
            output: 3,
            state: State::Active,
            scheduled: trigger,
            done: trigger,
            outcome: Outcome::Done,
        };
        events.tell(What::Edge(edge));
        events.fault(Reason::Engine, Some(number), Remedy::Safe, Why::of(&format_args!("number {number}")));
        events.note(&"a note");
        events.tick();
    }
    assert_eq!(COUNT.get() - before, 0);
    assert_eq!(events.counters().parts(), 2000);
}
