//! What the fuzz targets share: the budget of images and who holds them to it, a clock that needs
//! no waiting, and a client that has sent everything.

use peak_alloc::PeakAlloc;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use tagpin::pictures::Budget;
use tagpin::random::Random;
use tagpin::time::{Clock, Instant};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What decoding an image may take.
pub const BUDGET: Budget = Budget::megabytes(16);
/// Tables, rows and messages of a decoder, which its budget does not count.
const BESIDE: usize = 1 << 20;

/// Does `work`, and panics if more memory than [`BUDGET`] was held at once meanwhile.
pub fn within_budget<T>(work: impl FnOnce() -> T) -> T {
    within(BUDGET.0 as usize + BESIDE, work)
}

/// Does `work`, and panics if more than `most` bytes of memory were held at once meanwhile.
pub fn within<T>(most: usize, work: impl FnOnce() -> T) -> T {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let done = work();
    let taken = MEMORY.peak_usage().saturating_sub(before);
    assert!(taken <= most, "{taken} bytes were held at once, of at most {most}");
    done
}

/// Most bytes of a client: the answers to them fit into a socket that is read only afterwards.
pub const SENT: usize = 4096;

/// Sends `bytes`, in pieces drawn by `draw` that are read one by one, ends, and gives what
/// `answer` answers. `draw` 0: one piece.
///
/// # Panics
///
/// Where `bytes` are more than [`SENT`], or the system has no sockets left.
pub fn answered(mut bytes: &[u8], draw: u64, answer: impl FnOnce(TcpStream)) -> Vec<u8> {
    assert!(bytes.len() <= SENT, "{} bytes, expected at most {SENT}", bytes.len());
    // A write of a stream may be read together with the next one.
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (client, server) = pair.expect("a pair of sockets");
    for end in [&client, &server] {
        sockopt::set_socket_send_buffer_size(end, 1 << 20).expect("a size, cut to what is allowed");
    }
    let mut random = Random::new(draw, 0);
    let longest = if draw == 0 { SENT } else { 4 << random.range(0, 8) };
    let mut pieces = 0;
    while !bytes.is_empty() {
        let drawn = if pieces < 200 { random.range(1, longest as i32) as usize } else { SENT };
        let length = if draw == 0 { SENT } else { drawn }.min(bytes.len());
        let piece = rustix::io::write(&client, &bytes[..length]).expect("room for what a client sends");
        assert_eq!(piece, length, "a piece goes whole or not at all");
        bytes = &bytes[length..];
        pieces += 1;
    }
    let mut client = UnixStream::from(client);
    client.shutdown(Shutdown::Write).expect("an end that nobody closed");
    answer(TcpStream::from(server));
    let (mut all, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match client.read(&mut piece) {
            // Told once, before the answers, where the server left something unread.
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(e) => panic!("what was answered: {e}"),
        }
    }
}

/// A clock that goes on by 1 ms whenever it is asked.
#[derive(Debug)]
pub struct Ticking(AtomicU64);

impl Default for Ticking {
    fn default() -> Self {
        Self(AtomicU64::new(1_000_000))
    }
}

impl Clock for Ticking {
    fn now(&self) -> Instant {
        Instant::from_micros(self.0.fetch_add(1000, Ordering::Relaxed))
    }

    fn wait_until(&self, at: Instant) {
        let left = at.since(self.now()).0;
        self.0.fetch_add(left, Ordering::Relaxed);
    }
}
