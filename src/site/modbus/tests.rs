//! A server that ends, over real sockets.

use super::*;
use std::io::{Read, Write};

struct Running {
    address: SocketAddr,
    posts: Posts,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Running {
    /// A PLC may write and triggers parts.
    fn start() -> Self {
        let posts = Posts::default();
        let triggering = Some(Triggering { posts: posts.clone(), max_jitter: None });
        let peers = vec!["127.0.0.1".parse().unwrap()];
        let writers = Writers { peers, triggering, ..Writers::default() };
        let server = Modbus::bind("127.0.0.1:0".parse().unwrap(), Registers::new(4, true, None), writers).unwrap();
        let (address, stop) = (server.address(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || server.serve(&Arc::new(Events::kept(Arc::new(SystemClock))), &stopped));
        Self { address, posts, stop, thread }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

/// Writes the trigger; whether it was answered as taken, `None` at the connection's end.
fn write_trigger(stream: &mut TcpStream, to: bool) -> Option<bool> {
    let request = [5, 0, 3, if to { 0xff } else { 0 }, 0];
    stream.write_all(&[&[0, 1, 0, 0, 0, 6, 1], &request[..]].concat()).ok()?;
    let mut head = [0; 7];
    stream.read_exact(&mut head).ok()?;
    let mut reply = vec![0; head[5] as usize - 1];
    stream.read_exact(&mut reply).expect("an answer comes whole");
    Some(reply == request)
}

/// How many triggers were posted: as the run's input reads them.
fn posted(posts: &Posts) -> usize {
    let spec = crate::triggers::TriggerSpec::Modbus { max_jitter: None };
    let mut input = crate::triggers::open(&spec, &(Arc::new(SystemClock) as _), posts).unwrap();
    let read = std::iter::from_fn(|| input.next(Duration::ZERO).unwrap());
    read.filter(|input| matches!(input, crate::triggers::Input::Trigger { .. })).count()
}

/// Over a change of recipe a PLC kept its connection for as long as it polled: its triggers were
/// answered as taken by the run that was over, and no part came of them.
#[test]
fn a_plcs_idle_connection_ends_with_its_server_and_no_trigger_over_it_is_answered_as_taken() {
    let running = Running::start();
    let [mut idle, mut late] = [(); 2].map(|()| running.connect());
    assert_eq!(write_trigger(&mut late, true), Some(true));
    assert_eq!(write_trigger(&mut late, false), Some(true));
    running.stop.store(true, Ordering::Release);
    // Read before the listener has seen the stop, or after it.
    assert_eq!(write_trigger(&mut late, true), None);
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "it is closed");
    let begun = Instant::now();
    running.thread.join().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "there was nothing to wait for");
    assert_eq!(posted(&running.posts), 1);
}

/// Stops at drawn moments against PLCs that trigger without a pause.
#[test]
fn whenever_the_stop_comes_each_trigger_that_was_answered_as_taken_was_posted() {
    let (seed, cases) = crate::random::drawn_cases(40);
    for case in 0..cases {
        let mut random = crate::random::Random::new(seed, case);
        let running = Running::start();
        let mut stream = running.connect();
        let plc = std::thread::spawn(move || {
            let mut taken = 0;
            // Fewer than may wait for the input.
            while taken < 60 && write_trigger(&mut stream, true) == Some(true) {
                taken += 1;
                if write_trigger(&mut stream, false) != Some(true) {
                    break;
                }
            }
            taken
        });
        std::thread::sleep(Duration::from_micros(random.range(0, 3_000) as u64));
        running.stop.store(true, Ordering::Release);
        running.thread.join().unwrap();
        let before = posted(&running.posts);
        assert_eq!(plc.join().unwrap(), before, "seed {seed}, case {case}");
    }
}
