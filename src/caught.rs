//! Panics of libraries that assert what a file or a device may break become words, and nothing but
//! words.
//!
//! [`caught`] runs such code. If it panics there, the message comes back as an error: neither it
//! nor a backtrace is printed, and hooks that ask [`is_here`] raise no alarm. Panics elsewhere are
//! told as ever.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// How many calls of [`caught`] this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Counts a call of [`caught`] for as long as it lasts.
struct Inside;

impl Inside {
    fn new() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let others = take_hook();
            set_hook(Box::new(move |info| {
                if !is_here() {
                    others(info);
                }
            }));
        });
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// What `run` returns, or what its panic said. What `run` was changing then must not be used any
/// more.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    let inside = Inside::new();
    let result = catch_unwind(AssertUnwindSafe(run));
    drop(inside);
    result.map_err(|panic| {
        let why = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        why.unwrap_or("it did not say why").to_string()
    })
}

/// Whether this thread is inside of [`caught`], so that a panic ends nothing but that.
pub fn is_here() -> bool {
    DEPTH.get() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_words_and_the_next_one_outside_is_told() {
        assert_eq!(caught(|| 3), Ok(3));
        let expected = Err::<(), _>("index 2 of 1".to_string());
        assert_eq!(caught(|| panic!("index {} of 1", 2)), expected);
        let nested = caught(|| caught(|| panic!("inner")).unwrap_err());
        assert_eq!(nested, Ok("inner".into()));
        assert!(!is_here() && caught(is_here).unwrap());
    }
}
