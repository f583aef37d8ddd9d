//! The camera as the sensor: a part is detected by motion or presence in a region of the frame.
//!
//! The brightness (luma, green in RGB) of [`GRID`] cells, each the mean of 16 points, is compared
//! with the previous frame or with the empty scene. Integers only.

use crate::frame::{FrameView, Layout, PixelFormat};
use crate::preprocess::Roi;

/// Columns and rows of cells.
const GRID: [usize; 2] = [24, 18];
const CELLS: usize = GRID[0] * GRID[1];

/// What a frame is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The previous frame: finds that something moves.
    LastFrame,
    /// The empty scene, averaged slowly while nothing is there: finds that something is there.
    Background,
}

/// The rules of detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceRules {
    /// What a frame is compared with.
    pub reference: Reference,
    /// Part of the frame that is looked at; all of it if absent.
    pub roi: Option<Roi>,
    /// Grey levels by which a cell must differ, 1..=255.
    pub level: u8,
    /// Share of cells that must differ, in 1/1000; it counts as gone below half of it.
    pub area: u16,
}

/// Detects when a part comes into view.
pub struct Presence {
    rules: PresenceRules,
    /// Brightness of each cell in 1/64 grey levels; `None` before the first frame.
    reference: Option<[u16; CELLS]>,
    present: bool,
}

impl Presence {
    /// One that has seen nothing. The first frame is taken for the empty scene.
    pub const fn new(rules: PresenceRules) -> Self {
        Self { rules, reference: None, present: false }
    }

    /// Looks at a frame; true when a part has come into view that was not there in the frame
    /// before.
    pub fn appears(&mut self, frame: &FrameView<'_>) -> bool {
        let cells = cells(frame, self.rules.roi);
        let Some(reference) = &mut self.reference else {
            self.reference = Some(cells);
            return false;
        };
        let level = self.rules.level as u16 * 64;
        let differing = cells.iter().zip(reference.iter()).filter(|(a, b)| a.abs_diff(**b) >= level).count();
        let share = (differing * 1000 / CELLS) as u16;
        let was = self.present;
        self.present = share >= if was { (self.rules.area / 2).max(1) } else { self.rules.area };
        match self.rules.reference {
            Reference::LastFrame => *reference = cells,
            // The scene adapts 16 times more slowly while something is there, so that a part that
            // stays becomes part of it in the end.
            Reference::Background => {
                let shift = if self.present { 10 } else { 6 };
                for (known, cell) in reference.iter_mut().zip(&cells) {
                    let step = (*cell as i32 - *known as i32) >> shift;
                    let least = (*cell as i32 - *known as i32).signum();
                    *known = (*known as i32 + if step == 0 && !self.present { least } else { step }) as u16;
                }
            }
        }
        self.present && !was
    }

    /// Forgets the scene: the source was opened again.
    pub fn forget(&mut self) {
        self.reference = None;
        self.present = false;
    }
}

/// Offset of the luma (or green) byte of a pixel.
fn luma(layout: &Layout, x: usize, y: usize) -> usize {
    let row = y * layout.stride as usize;
    row + match layout.format {
        PixelFormat::Rgb8 | PixelFormat::Bgr8 => 3 * x + 1,
        PixelFormat::Yuyv => 2 * x,
        PixelFormat::Grey8 | PixelFormat::I420 | PixelFormat::I422 | PixelFormat::Nv12 => x,
    }
}

fn cells(frame: &FrameView<'_>, roi: Option<Roi>) -> [u16; CELLS] {
    let layout = frame.layout();
    let (width, height) = (layout.width as usize, layout.height as usize);
    let roi = roi.unwrap_or(Roi { x: 0, y: 0, width: layout.width, height: layout.height });
    let (x0, y0) = ((roi.x as usize).min(width - 1), (roi.y as usize).min(height - 1));
    let (w, h) = ((roi.width as usize).clamp(1, width - x0), (roi.height as usize).clamp(1, height - y0));
    let bytes = frame.bytes();
    std::array::from_fn(|cell| {
        let (cx, cy) = (cell % GRID[0], cell / GRID[0]);
        let sum: u16 = (0..16)
            .map(|point| {
                let x = x0 + (4 * cx + point % 4) * w / (4 * GRID[0]);
                let y = y0 + (4 * cy + point / 4) * h / (4 * GRID[1]);
                bytes[luma(&layout, x, y)] as u16
            })
            .sum();
        sum * 4
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Colour;

    const RULES: PresenceRules = PresenceRules { reference: Reference::Background, roi: None, level: 20, area: 50 };

    fn frame(format: PixelFormat, square: Option<usize>) -> (Layout, Vec<u8>) {
        let layout = Layout::packed(format, Colour::default(), 96, 72);
        let mut bytes = vec![60; layout.byte_len().unwrap()];
        if let Some(at) = square {
            for y in 20..50 {
                for x in at..at + 30 {
                    bytes[luma(&layout, x, y)] = 180;
                }
            }
        }
        (layout, bytes)
    }

    fn appearances(rules: PresenceRules, format: PixelFormat, squares: &[Option<usize>]) -> Vec<bool> {
        let mut presence = Presence::new(rules);
        let look = |square: &Option<usize>| {
            let (layout, bytes) = frame(format, *square);
            presence.appears(&FrameView::new(layout, &bytes).unwrap())
        };
        squares.iter().map(look).collect()
    }

    #[test]
    fn a_part_appears_once_while_it_is_in_view_and_again_when_it_comes_back() {
        let squares = [None, None, Some(10), Some(20), Some(30), None, Some(10)];
        for format in [PixelFormat::Grey8, PixelFormat::Rgb8, PixelFormat::Yuyv, PixelFormat::I420, PixelFormat::Nv12] {
            let seen = appearances(RULES, format, &squares);
            assert_eq!(seen, [false, false, true, false, false, false, true], "{format:?}");
        }
    }

    #[test]
    fn motion_is_a_change_from_frame_to_frame() {
        let rules = PresenceRules { reference: Reference::LastFrame, ..RULES };
        let seen = appearances(rules, PixelFormat::Grey8, &[None, Some(10), Some(10), Some(10), Some(40)]);
        assert_eq!(seen, [false, true, false, false, true]);
    }

    #[test]
    fn what_happens_outside_the_region_does_not_count() {
        let rules = PresenceRules { roi: Some(Roi { x: 60, y: 0, width: 36, height: 72 }), ..RULES };
        assert_eq!(appearances(rules, PixelFormat::Grey8, &[None, Some(10), Some(70)]), [false, false, true]);
    }

    #[test]
    fn the_scene_follows_slow_light() {
        let mut presence = Presence::new(RULES);
        for grey in (60..200).flat_map(|g| [g; 100]) {
            let layout = Layout::packed(PixelFormat::Grey8, Colour::default(), 96, 72);
            assert!(!presence.appears(&FrameView::new(layout, &vec![grey; 96 * 72]).unwrap()), "{grey}");
        }
    }
}
