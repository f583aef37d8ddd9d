//! An image as a small plane that does not depend on the light, and the best likeness of two
//! planes.
//!
//! *Light*: the logarithm makes an exposure a constant, which the next step removes; what is
//! clipped to black or white is unknown, not equal. *Locally normalised*: each pixel less the mean
//! round it, over the deviation round it, so that contrast, gradients of light and blur change
//! little. *Likeness*: the normalised cross-correlation over pixels that both planes know, at the
//! best rotation, shift and mirroring, without the blocks that add most to it: one bright spot in
//! the same place makes no twins.

/// Pixels a side.
pub const SIDE: usize = 64;
const PIXELS: usize = SIDE * SIDE;
/// Pixels a side of the plane by which candidates are found.
const COARSE: usize = 16;
/// Deviation of the mean round a pixel, in pixels.
const REACH: f32 = 4.0;
/// Local deviation, in units of the logarithm, below which a plane is noise rather than detail.
const FLAT: f32 = 0.02;
/// Blocks per side of a plane.
const BLOCKS: usize = 8;
/// Of the filled blocks, one in this many is left out: those that add most to the correlation.
const LEFT_OUT: usize = 16;

/// How one plane is laid on another: mirrored first, then turned about the middle, then moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lay {
    /// Left and right exchanged.
    pub mirror: bool,
    /// Degrees.
    pub turn: f32,
    /// Pixels of the plane, to the right and down.
    pub shift: [f32; 2],
}

impl Lay {
    /// As it is.
    pub const STRAIGHT: Self = Self { mirror: false, turn: 0.0, shift: [0.0; 2] };
}

/// Values and which of them are known.
#[derive(Clone, Debug)]
pub struct Plane {
    /// `[SIDE, SIDE]`.
    pub values: Vec<f32>,
    /// `[SIDE, SIDE]`, 1 where the value is known, else 0.
    pub known: Vec<f32>,
    /// Width of the image over its height: a turn of the image is no turn of its square plane.
    pub ratio: f32,
}

impl Plane {
    /// The logarithm of light. `grey`: `[SIDE, SIDE]`.
    pub fn of_light(grey: &[u8], ratio: f32) -> Self {
        let values = grey.iter().map(|&g| (f32::from(g) + 16.0).ln()).collect();
        let known = grey.iter().map(|g| f32::from(u8::from((5..250).contains(g)))).collect();
        Self { values, known, ratio }
    }

    /// Light itself, in which an exposure is a factor. `grey`: `[SIDE, SIDE]`.
    pub fn of_grey(grey: &[u8], ratio: f32) -> Self {
        let values = grey.iter().map(|&g| f32::from(g) / 64.0).collect();
        Self { values, ..Self::of_light(grey, ratio) }
    }

    /// A plane of light with as many pixels black and white as another has, all of them known: what
    /// an image looks like where the other's exposure leaves no detail.
    pub fn clipped_as(&self, other: &Self) -> Self {
        let clipped = |p: &Self, white: bool| {
            let middle = 66.0f32.ln();
            p.values.iter().zip(&p.known).filter(|(v, k)| **k < 0.5 && (**v > middle) == white).count()
        };
        let mut sorted = self.values.clone();
        sorted.sort_by(f32::total_cmp);
        let black = sorted[clipped(other, false).min(PIXELS - 1)];
        let white = sorted[PIXELS - 1 - clipped(other, true).min(PIXELS - 1)];
        let values = self.values.iter().map(|v| v.min(white).max(black)).collect();
        Self { values, known: vec![1.0; PIXELS], ratio: self.ratio }
    }

    /// Minus the mean around each pixel.
    pub fn without_mean(&self) -> Self {
        let mean = blurred(&self.values, SIDE, REACH);
        let values = self.values.iter().zip(&mean).map(|(v, m)| v - m).collect();
        Self { values, known: self.known.clone(), ratio: self.ratio }
    }

    /// Minus the mean around each pixel, divided by the deviation around it.
    pub fn normalised(&self) -> Self {
        let mean = blurred(&self.values, SIDE, REACH);
        let detail: Vec<f32> = self.values.iter().zip(&mean).map(|(v, m)| v - m).collect();
        let squares: Vec<f32> = detail.iter().map(|d| d * d).collect();
        let power = blurred(&squares, SIDE, REACH);
        let values = detail.iter().zip(power).map(|(d, p)| d / (p + FLAT * FLAT).sqrt()).collect();
        Self { values, known: self.known.clone(), ratio: self.ratio }
    }

    /// The plane as it lies on another one; what came from outside is unknown.
    pub fn laid(&self, lay: Lay) -> Self {
        let mut laid = Self { values: vec![0.0; PIXELS], known: vec![0.0; PIXELS], ratio: self.ratio };
        self.lay_into(lay, SIDE, &mut laid);
        laid
    }

    fn lay_into(&self, lay: Lay, side: usize, into: &mut Self) {
        let (sin, cos) = lay.turn.to_radians().sin_cos();
        let middle = (side as f32 - 1.0) / 2.0;
        let last = side as f32 - 1.0;
        for y in 0..side {
            for x in 0..side {
                // Where the pixel comes from, in units of the image's own shape.
                let (dx, dy) = ((x as f32 - middle - lay.shift[0]) * self.ratio, y as f32 - middle - lay.shift[1]);
                let from_x = (cos * dx - sin * dy) / self.ratio + middle;
                let from_y = sin * dx + cos * dy + middle;
                let from_x = if lay.mirror { last - from_x } else { from_x };
                let inside = (-0.01..=last + 0.01).contains(&from_x) && (-0.01..=last + 0.01).contains(&from_y);
                let (from_x, from_y) = (from_x.clamp(0.0, last), from_y.clamp(0.0, last));
                let (x0, y0) = ((from_x as usize).min(side - 2), (from_y as usize).min(side - 2));
                let (fx, fy) = (from_x - x0 as f32, from_y - y0 as f32);
                let at = y0 * side + x0;
                let weights = [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy];
                let places = [at, at + 1, at + side, at + side + 1];
                let mix = |of: &[f32]| weights.iter().zip(places).map(|(w, p)| w * of[p]).sum::<f32>();
                into.values[y * side + x] = mix(&self.values);
                into.known[y * side + x] = f32::from(u8::from(inside && mix(&self.known) > 0.75));
            }
        }
    }

    /// Half the side: means of four pixels, known where all four are.
    fn halved(&self) -> Self {
        let half = SIDE / 2;
        let four = |of: &[f32], i: usize| {
            let at = i / half * 2 * SIDE + i % half * 2;
            of[at] + of[at + 1] + of[at + SIDE] + of[at + SIDE + 1]
        };
        let values = (0..half * half).map(|i| four(&self.values, i) / 4.0).collect();
        let known = (0..half * half).map(|i| f32::from(u8::from(four(&self.known, i) > 3.5))).collect();
        Self { values, known, ratio: self.ratio }
    }
}

/// Turns and mirrorings in which candidates are looked for.
const TURNS: [f32; 5] = [0.0, -3.0, 3.0, -6.0, 6.0];
/// Forms of one plane.
pub const FORMS: usize = 2 * TURNS.len();

/// How the plane lies in a form.
pub fn form(i: usize) -> Lay {
    Lay { mirror: i >= TURNS.len(), turn: TURNS[i % TURNS.len()], shift: [0.0; 2] }
}

/// A plane of 16x16 pixels without its coarsest part, of length 1, by whose dot products candidates
/// are found.
pub type Coarse = Vec<f32>;

/// The coarse form of a plane that is not yet normalised.
pub fn coarse(plane: &Plane, lay: Lay, high_pass: bool) -> Coarse {
    let laid = if lay == Lay::STRAIGHT { plane.clone() } else { plane.laid(lay) };
    let step = SIDE / COARSE;
    let mut small = vec![0.0; COARSE * COARSE];
    for (i, v) in laid.values.iter().enumerate() {
        small[i / SIDE / step * COARSE + i % SIDE / step] += v;
    }
    if high_pass {
        let mean = blurred(&small, COARSE, 2.5);
        small.iter_mut().zip(mean).for_each(|(v, m)| *v -= m);
    }
    let mean = small.iter().sum::<f32>() / small.len() as f32;
    small.iter_mut().for_each(|v| *v -= mean);
    let length = small.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-9);
    small.iter_mut().for_each(|v| *v /= length);
    small
}

/// Dot product of two coarse planes, -1..=1.
pub fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for k in 0..8 {
            lanes[k] += a[k] * b[k];
        }
    }
    lanes.iter().sum()
}

/// A normalised plane with its half.
pub struct Detail {
    whole: Plane,
    half: Plane,
}

impl Detail {
    /// Of a normalised plane.
    pub fn of(whole: Plane) -> Self {
        Self { half: whole.halved(), whole }
    }

    /// Share of pixels that are known.
    pub fn known(&self) -> f32 {
        self.whole.known.iter().sum::<f32>() / PIXELS as f32
    }
}

/// Likeness at half size below which full size is not tried.
const HOPELESS: f32 = 0.3;

/// How alike two planes are at best, -1..=1, with `b` laid near `from` on `a`; and how it lies
/// then.
pub fn likeness(a: &Detail, b: &Detail, from: Lay) -> (f32, Lay) {
    let half = SIDE / 2;
    let mut turned = Plane { values: vec![0.0; half * half], known: vec![0.0; half * half], ratio: b.half.ratio };
    let mut best = (-1.0, from);
    for turn in [from.turn, from.turn - 1.5, from.turn + 1.5] {
        b.half.lay_into(Lay { turn, shift: [0.0; 2], ..from }, half, &mut turned);
        for y in -3..=3i32 {
            for x in -3..=3i32 {
                let one = correlation_moved(&a.half, &turned, half, x, y);
                if one > best.0 {
                    best = (one, Lay { turn, shift: [2.0 * x as f32, 2.0 * y as f32], ..from });
                }
            }
        }
    }
    if best.0 < HOPELESS {
        return best;
    }
    let mut laid = Plane { values: vec![0.0; PIXELS], known: vec![0.0; PIXELS], ratio: b.whole.ratio };
    let mut at = |lay: Lay| {
        b.whole.lay_into(lay, SIDE, &mut laid);
        spread_correlation(&a.whole, &laid)
    };
    let mut best = (at(best.1), best.1);
    for step in [1.0, 0.5] {
        for _ in 0..6 {
            let before = best.0;
            let Lay { turn, shift: [x, y], .. } = best.1;
            let near = [
                (step, 0.0, 0.0),
                (-step, 0.0, 0.0),
                (0.0, step, 0.0),
                (0.0, -step, 0.0),
                (0.0, 0.0, step),
                (0.0, 0.0, -step),
            ];
            for (t, dx, dy) in near {
                let lay = Lay { turn: turn + t, shift: [x + dx, y + dy], ..from };
                let one = at(lay);
                if one > best.0 {
                    best = (one, lay);
                }
            }
            if best.0 <= before {
                break;
            }
        }
    }
    best
}

/// How alike two planes are where they lie, or a pixel beside.
pub fn likeness_in_place(a: &Plane, b: &Plane) -> f32 {
    let near = (-1..=1).flat_map(|y| (-1..=1).map(move |x| (x, y)));
    near.map(|(x, y)| correlation_moved(a, b, SIDE, x, y)).fold(-1.0, f32::max)
}

/// Correlation of `a` with `b` moved by whole pixels, over what both know.
fn correlation_moved(a: &Plane, b: &Plane, side: usize, x: i32, y: i32) -> f32 {
    let mut s = [0.0f32; 6];
    let width = side - x.unsigned_abs() as usize;
    for row in 0..side - y.unsigned_abs() as usize {
        let begin = |dx: i32, dy: i32| (row + dy.max(0) as usize) * side + dx.max(0) as usize;
        let (i, j) = (begin(x, y), begin(-x, -y));
        let (av, ak) = (&a.values[i..i + width], &a.known[i..i + width]);
        let (bv, bk) = (&b.values[j..j + width], &b.known[j..j + width]);
        for k in 0..width {
            let w = ak[k] * bk[k];
            let (u, v) = (av[k] * w, bv[k] * w);
            s[0] += w;
            s[1] += u;
            s[2] += v;
            s[3] += u * av[k];
            s[4] += v * bv[k];
            s[5] += u * bv[k];
        }
    }
    of_totals(&s, (side * side) as f32)
}

/// Correlation from the totals n, a, b, aa, bb, ab; -1 if less than an eighth of `all` is known.
fn of_totals(s: &[f32; 6], all: f32) -> f32 {
    if s[0] < all / 8.0 {
        return -1.0;
    }
    let var = |sum: f32, squares: f32| (squares - sum * sum / s[0]).max(1e-9);
    (s[5] - s[1] * s[2] / s[0]) / (var(s[1], s[3]) * var(s[2], s[4])).sqrt()
}

/// Correlation over what both know, without the blocks that add most to it.
fn spread_correlation(a: &Plane, b: &Plane) -> f32 {
    let size = SIDE / BLOCKS;
    let mut blocks = [[0.0f32; 6]; BLOCKS * BLOCKS];
    for i in 0..PIXELS {
        let s = &mut blocks[i / SIDE / size * BLOCKS + i % SIDE / size];
        let w = a.known[i] * b.known[i];
        let (u, v) = (a.values[i] * w, b.values[i] * w);
        s[0] += w;
        s[1] += u;
        s[2] += v;
        s[3] += u * a.values[i];
        s[4] += v * b.values[i];
        s[5] += u * b.values[i];
    }
    blocks.sort_by(|p, q| q[5].total_cmp(&p[5]));
    let mut s = [0.0; 6];
    let filled = blocks.iter().filter(|b| b[3] + b[4] > 1e-3).count();
    for block in &blocks[filled.div_ceil(LEFT_OUT)..] {
        s.iter_mut().zip(block).for_each(|(sum, b)| *sum += b);
    }
    of_totals(&s, PIXELS as f32)
}

/// Gaussian blur, edges repeated. `values`: `[side, side]`.
pub fn blurred(values: &[f32], side: usize, deviation: f32) -> Vec<f32> {
    let reach = (2.5 * deviation).ceil() as i32;
    let weights: Vec<f32> = (-reach..=reach).map(|i| (-(i * i) as f32 / (2.0 * deviation * deviation)).exp()).collect();
    let all: f32 = weights.iter().sum();
    let pass = |from: &[f32], along: usize, across: usize| {
        let mut to = vec![0.0; side * side];
        for line in 0..side {
            for i in 0..side {
                let mut sum = 0.0;
                for (k, w) in weights.iter().enumerate() {
                    let j = (i as i32 + k as i32 - reach).clamp(0, side as i32 - 1) as usize;
                    sum += w * from[line * across + j * along];
                }
                to[line * across + i * along] = sum / all;
            }
        }
        to
    };
    pass(&pass(values, 1, side), side, 1)
}
