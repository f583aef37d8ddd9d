//! The memory that decoding one image may take, and how it is taken: so that none left is an error
//! of that image and not the end of the program.

use super::PictureError;
use crate::frame::MAX_SIDE;
use crate::regular::{self, Unread};
use std::io::Read;
use std::path::Path;

/// The most memory that decoding one image may take, in bytes: its file's bytes, the image, and
/// what the decoder holds beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(pub u64);

impl Budget {
    /// Fits a board of 512 MB beside a model and the frames in flight: 30 megapixels of plain JPEG;
    /// 12 of BMP, of PNG with 8 bits a channel, of progressive JPEG but 4:4:4, and of WebP without
    /// transparency, if its file has at most 16 MB.
    pub const DEVICE: Self = Self::megabytes(96);
    /// For the machine that trains.
    pub const HOST: Self = Self::megabytes(1024);

    /// `n` times 2^20 bytes.
    pub const fn megabytes(n: u64) -> Self {
        Self(n << 20)
    }

    /// Whether an image of this size may be decoded. `file`: bytes of its file, which stay in
    /// memory meanwhile; `image`: all that is held besides.
    pub(super) fn allow(self, [width, height]: [u32; 2], file: usize, image: u64) -> Result<(), PictureError> {
        let file = file as u64;
        let needed = file.saturating_add(image);
        if width > MAX_SIDE || height > MAX_SIDE || needed > self.0 {
            return Err(PictureError::TooLarge { width, height, needed, file, budget: self });
        }
        Ok(())
    }

    /// The bytes of a regular file that may be decoded. One that alone takes too much is not read.
    pub(super) fn read(self, path: &Path) -> Result<Vec<u8>, PictureError> {
        let unread = |e| PictureError::Read(Unread::Io(e));
        let size = regular::size(path, self.0).map_err(PictureError::Read)?;
        let mut bytes = room(size as usize)?;
        // One that grows meanwhile is no whole image at either size.
        std::fs::File::open(path).and_then(|file| file.take(size).read_to_end(&mut bytes)).map_err(unread)?;
        Ok(bytes)
    }
}

/// The system does not have this many bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoMemory(pub(super) u64);

/// An empty vector with room for `n`.
pub(super) fn room<T>(n: usize) -> Result<Vec<T>, NoMemory> {
    let mut vector = Vec::new();
    match vector.try_reserve_exact(n) {
        Ok(()) => Ok(vector),
        Err(_) => Err(NoMemory((n * size_of::<T>()) as u64)),
    }
}

/// A vector of `n` times `value`.
pub(super) fn filled<T: Clone>(n: usize, value: T) -> Result<Vec<T>, NoMemory> {
    let mut vector = room(n)?;
    vector.resize(n, value);
    Ok(vector)
}

/// Asks the system for this many bytes and gives them back: decoders that are crates end the
/// program where they get none.
pub(super) fn ask(bytes: u64) -> Result<(), NoMemory> {
    usize::try_from(bytes).map_err(|_| NoMemory(bytes)).and_then(room::<u8>).map(drop)
}
