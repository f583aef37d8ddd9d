//! Panics of the library that reads and runs the model's file become words, and nothing but words.
//!
//! Tract asserts here and there what a file may break. [`caught`] runs such code; if it panics
//! there, the message comes back as an error, and neither it nor a backtrace is printed. Panics
//! elsewhere are told as ever.

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
                if DEPTH.get() == 0 {
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

/// What `run` returns, or in words why it panicked. What `run` was changing then must not be used
/// any more.
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    let inside = Inside::new();
    let result = catch_unwind(AssertUnwindSafe(run));
    drop(inside);
    result.map_err(|panic| {
        let why = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        format!("tract gave up on it: {}", why.unwrap_or("it did not say why"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_words_and_the_next_one_outside_is_told() {
        assert_eq!(caught(|| 3), Ok(3));
        let expected = Err::<(), _>("tract gave up on it: index 2 of 1".to_string());
        assert_eq!(caught(|| panic!("index {} of 1", 2)), expected);
        let nested = caught(|| caught(|| panic!("inner")).unwrap_err());
        assert_eq!(nested, Ok("tract gave up on it: inner".into()));
        assert_eq!(DEPTH.get(), 0);
    }
}
