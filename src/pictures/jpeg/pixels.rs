//! From a block's coefficients to RGB8: inverse DCT (by `kernels`), upsampling of chroma and
//! conversion of colours.
//!
//! All of it is integer arithmetic, and bit for bit what libjpeg gives by default (the slow and
//! accurate inverse DCT, triangle filters where a side of chroma is halved, fixed-point colours):
//! what a model was trained on elsewhere is what it sees here. Decoders that round otherwise differ
//! by 3 levels, because a level of chroma is worth 1.77 levels of blue.
//!
//! Rows are painted as soon as the chroma around them is there, so that besides the image two rows
//! of MCUs are held.
//!
//! *Band*: the samples of one row of MCUs. Formats: ITU-T T.81 (1992) and T.871 (2011).

use super::super::budget::{NoMemory, filled, room};
use super::{Header, Part};
use crate::kernels::inverse_dct::inverse_dct;

/// What the components are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Grey,
    Ycc,
    Rgb,
    /// Inverted, as all who write it do.
    Cmyk,
    /// CMYK whose first three are sent like YCbCr.
    Ycck,
}

/// The samples of one component, as far as they are not painted yet.
struct Plane {
    /// Samples of the image that one of this component covers, across and down.
    across: u32,
    down: u32,
    /// Samples that belong to the image.
    columns: usize,
    rows: u32,
    stride: usize,
    /// Rows held: two bands, used in turn.
    held: u32,
    samples: Vec<u8>,
}

/// The image, painted from top to bottom.
pub(super) struct Painter {
    width: usize,
    height: u32,
    /// Rows of the image in a band.
    band: u32,
    /// Rows that wait for the band below them, because their chroma does.
    delay: u32,
    space: Space,
    planes: Vec<Plane>,
    upsampled: [Vec<u8>; 4],
    /// Four times the samples of a row that is upsampled.
    weighted: Vec<u16>,
    painted: u32,
    /// The rows that are painted, in a vector that has room for all.
    rgb: Vec<u8>,
}

impl Painter {
    /// Takes the memory for the image and its bands.
    pub(super) fn new(header: &Header, space: Space) -> Result<Self, NoMemory> {
        let [h_max, v_max] = header.sampling();
        let plane = |part: &Part| {
            let [columns, _] = header.blocks(part);
            let held = 16 * part.v;
            Ok(Plane {
                across: h_max / part.h,
                down: v_max / part.v,
                columns: (header.width * part.h).div_ceil(h_max) as usize,
                rows: (header.height * part.v).div_ceil(v_max),
                stride: 8 * columns as usize,
                held,
                samples: filled(8 * columns as usize * held as usize, 0)?,
            })
        };
        let planes = header.parts().iter().map(plane).collect::<Result<Vec<Plane>, NoMemory>>()?;
        let upsampled =
            std::array::from_fn(|i| planes.get(i).map_or(Vec::new(), |p| vec![0; p.columns * p.across as usize]));
        Ok(Self {
            width: header.width as usize,
            height: header.height,
            band: 8 * v_max,
            delay: v_max,
            space,
            planes,
            upsampled,
            weighted: vec![0; header.width.div_ceil(8 * h_max) as usize * 8 * h_max as usize],
            painted: 0,
            rgb: room(3 * header.width as usize * header.height as usize)?,
        })
    }

    /// Places a block. `at`: its row and column among the component's blocks; `coefficients`,
    /// `steps`: row after row.
    pub(super) fn block(&mut self, component: usize, at: [u32; 2], coefficients: &[i16; 64], steps: &[u16; 64]) {
        let plane = &mut self.planes[component];
        let start = (8 * at[0] % plane.held) as usize * plane.stride + 8 * at[1] as usize;
        inverse_dct(coefficients, steps, &mut plane.samples[start..], plane.stride);
    }

    /// Paints what can be when `bands` rows of MCUs are placed.
    pub(super) fn paint(&mut self, bands: u32) {
        let placed = bands * self.band;
        let end = if placed >= self.height { self.height } else { placed - self.delay };
        for y in self.painted..end {
            let mut rows = [&[][..]; 4];
            for ((row, plane), upsampled) in rows.iter_mut().zip(&self.planes).zip(&mut self.upsampled) {
                *row = &plane.row(y, upsampled, &mut self.weighted)[..self.width];
            }
            let start = 3 * self.width * y as usize;
            self.rgb.resize(start + 3 * self.width, 0);
            convert(self.space, rows, self.rgb[start..].as_chunks_mut().0);
        }
        self.painted = end;
    }

    /// The image, `[height, width, 3]`.
    pub(super) fn finish(self) -> Vec<u8> {
        self.rgb
    }
}

impl Plane {
    fn samples(&self, row: u32) -> &[u8] {
        let start = (row % self.held) as usize * self.stride;
        &self.samples[start..start + self.columns]
    }

    /// The component's samples for row `y` of the image, one for each of its columns. `out`,
    /// `weighted`: where it is made.
    fn row<'a>(&'a self, y: u32, out: &'a mut [u8], weighted: &mut [u16]) -> &'a [u8] {
        let own = y / self.down;
        let near = self.samples(own);
        // The row of chroma that lies next nearest, its own where there is none.
        let upper = y.is_multiple_of(2);
        let far = || self.samples(if upper { own.saturating_sub(1) } else { (own + 1).min(self.rows - 1) });
        match (self.across, self.down) {
            (1, 1) => return near,
            (1, 2) => {
                for ((out, &near), &far) in out.iter_mut().zip(near).zip(far()) {
                    *out = ((3 * near as u16 + far as u16 + if upper { 1 } else { 2 }) >> 2) as u8;
                }
            }
            // Both kinds of triangle take 3 of 4 from the nearest; roundings alternate, so that
            // none prevails.
            (2, 1) if self.columns > 2 => {
                weighted.iter_mut().zip(near).for_each(|(sum, &near)| *sum = 4 * near as u16);
                widen(out, &weighted[..self.columns], [4, 8]);
            }
            (2, 2) if self.columns > 2 => {
                let rows = near.iter().zip(far());
                weighted.iter_mut().zip(rows).for_each(|(sum, (&near, &far))| *sum = 3 * near as u16 + far as u16);
                widen(out, &weighted[..self.columns], [8, 7]);
            }
            (across, _) => {
                for (out, &near) in out.chunks_exact_mut(across as usize).zip(near) {
                    out.fill(near);
                }
            }
        }
        out
    }
}

/// Doubles a row by a triangle filter. `weighted`: four times each sample; `rounding`: what is
/// added before sixteenths are cut off, for the left and the right half of a sample.
fn widen(out: &mut [u8], weighted: &[u16], rounding: [u16; 2]) {
    let pair = |left: u16, own: u16, right: u16| {
        [(3 * own + left + rounding[0]) >> 4, (3 * own + right + rounding[1]) >> 4].map(|v| v as u8)
    };
    let pairs = &mut out.as_chunks_mut::<2>().0[..weighted.len()];
    let last = weighted.len() - 1;
    pairs[0] = pair(weighted[0], weighted[0], weighted[1]);
    pairs[last] = pair(weighted[last - 1], weighted[last], weighted[last]);
    let neighbours = weighted.iter().zip(&weighted[1..]).zip(&weighted[2..]);
    for (out, ((&left, &own), &right)) in pairs[1..].iter_mut().zip(neighbours) {
        *out = pair(left, own, right);
    }
}

/// Colours of one row.
fn convert(space: Space, [a, b, c, k]: [&[u8]; 4], out: &mut [[u8; 3]]) {
    let colours = a.iter().zip(b).zip(c).map(|((&a, &b), &c)| [a, b, c]);
    // What the inks leave of white, darkened by black; all inverted: 255 is no ink.
    let printed = |inks: [u8; 3], k: u8| {
        inks.map(|ink| {
            let product = (255 - ink) as u32 * k as u32 + 128;
            k - (((product >> 8) + product) >> 8) as u8
        })
    };
    match space {
        Space::Grey => out.iter_mut().zip(a).for_each(|(out, &grey)| *out = [grey; 3]),
        Space::Rgb => out.iter_mut().zip(colours).for_each(|(out, rgb)| *out = rgb),
        Space::Ycc => {
            let whole = out.as_chunks_mut::<RUN>();
            let [(ys, y), (cbs, cb), (crs, cr)] = [a, b, c].map(|row| row.as_chunks::<RUN>());
            for (((out, y), cb), cr) in whole.0.iter_mut().zip(ys).zip(cbs).zip(crs) {
                *out = rgb_run(y, cb, cr);
            }
            for (((out, &y), &cb), &cr) in whole.1.iter_mut().zip(y).zip(cb).zip(cr) {
                *out = rgb([y, cb, cr]);
            }
        }
        Space::Cmyk => out.iter_mut().zip(colours).zip(k).for_each(|((out, inks), &k)| *out = printed(inks, k)),
        Space::Ycck => {
            out.iter_mut().zip(colours).zip(k).for_each(|((out, ycc), &k)| *out = printed(rgb(ycc).map(|v| 255 - v), k));
        }
    }
}

/// Pixels that are converted at once.
const RUN: usize = 16;

/// As [`rgb`], colour after colour, so that a compiler makes vectors of it.
#[inline]
fn rgb_run(y: &[u8; RUN], cb: &[u8; RUN], cr: &[u8; RUN]) -> [[u8; 3]; RUN] {
    let mut planes = [[0u8; RUN]; 3];
    for i in 0..RUN {
        let pixel = rgb([y[i], cb[i], cr[i]]);
        for (plane, value) in planes.iter_mut().zip(pixel) {
            plane[i] = value;
        }
    }
    std::array::from_fn(|i| planes.map(|plane| plane[i]))
}

/// YCbCr of full range to RGB. In 1/65536 the factors are 91,881 of Cr for red (1.402), 116,130 of
/// Cb for blue (1.772), and -22,554 of Cb and -46,802 of Cr for green (0.34414, 0.71414); whole
/// parts are split off, so that what is left has 16 bits.
#[inline]
fn rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (y as i16, cb as i16 - 128, cr as i16 - 128);
    let rounded = |chroma: i16, factor: i16| ((((2 * chroma) as i32 * factor as i32) >> 16) as i16 + 1) >> 1;
    let red = y + cr + rounded(cr, 26_345);
    let mixed = -22_554 * cb as i32 + 18_734 * cr as i32 + (1 << 15);
    let green = y + (mixed >> 16) as i16 - cr;
    let blue = y + 2 * cb + rounded(cb, -14_942);
    [red, green, blue].map(|v| v.clamp(0, 255) as u8)
}
