//! What the kernel says of the CPU, where Rust's own question is not stable.

/// The auxiliary vector's AT_HWCAP (Linux, getauxval(3)); none where it cannot be read.
pub(super) fn capabilities() -> Option<u64> {
    const AT_HWCAP: usize = 16;
    const WORD: usize = size_of::<usize>();
    let words = std::fs::read("/proc/self/auxv").ok()?;
    let mut words = words.as_chunks::<WORD>().0.iter().map(|word| usize::from_ne_bytes(*word));
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        if key == AT_HWCAP {
            return Some(value as u64);
        }
    }
    None
}
