//! Waiting for something to read: the one place where a signal that comes meanwhile is no error.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Waits until one of `fds` has bytes, its end or an error to read, at most `timeout`; says which
/// have. None after a signal, which may come before the time is over.
///
/// # Errors
///
/// The system does not watch one of them.
pub(crate) fn which<const N: usize>(fds: [BorrowedFd<'_>; N], timeout: Duration) -> std::io::Result<[bool; N]> {
    let mut polls = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let time = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ };
    match poll(&mut polls, Some(&time)) {
        Ok(_) => Ok(polls.map(|p| !p.revents().is_empty())),
        Err(rustix::io::Errno::INTR) => Ok([false; N]),
        Err(e) => Err(e.into()),
    }
}

/// As [`which`], of one.
pub(crate) fn is_readable(fd: BorrowedFd<'_>, timeout: Duration) -> std::io::Result<bool> {
    which([fd], timeout).map(|[is_readable]| is_readable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn bytes_and_ends_are_something_to_read_and_silence_is_none() {
        let (silent, held) = std::io::pipe().unwrap();
        let (full, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let (ended, _) = std::io::pipe().unwrap();
        let all = [silent.as_fd(), full.as_fd(), ended.as_fd()];
        assert_eq!(which(all, Duration::from_secs(20)).unwrap(), [false, true, true]);
        assert!(!is_readable(silent.as_fd(), Duration::from_millis(1)).unwrap());
        drop(held);
    }
}
