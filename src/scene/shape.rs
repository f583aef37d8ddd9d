//! Outlines of the parts as integer predicates.
//!
//! Takes a point in the part's own coordinates, says whether it lies inside.

/// One part radius in local coordinates.
pub(super) const ONE: i32 = 4096;

/// What may lie on the belt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Hexagon-head bolt from the side.
    Bolt,
    /// L-shaped bracket with two holes.
    Bracket,
    /// Nothing.
    Empty,
    /// Gear with eight teeth.
    Gear,
    /// The same with one tooth gone.
    GearChipped,
    /// Hexagon nut.
    Nut,
    /// Plain washer.
    Washer,
    /// The same, cracked through.
    WasherCracked,
}

impl Kind {
    /// Everything, by name.
    pub const ALL: [Self; 8] = [
        Self::Bolt,
        Self::Bracket,
        Self::Empty,
        Self::Gear,
        Self::GearChipped,
        Self::Nut,
        Self::Washer,
        Self::WasherCracked,
    ];
    /// All but the empty belt.
    pub const PARTS: [Self; 7] =
        [Self::Bolt, Self::Bracket, Self::Gear, Self::GearChipped, Self::Nut, Self::Washer, Self::WasherCracked];

    /// The tag's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bolt => "bolt",
            Self::Bracket => "bracket",
            Self::Empty => "empty",
            Self::Gear => "gear",
            Self::GearChipped => "gear_chipped",
            Self::Nut => "nut",
            Self::Washer => "washer",
            Self::WasherCracked => "washer_cracked",
        }
    }
}

/// Whether the part covers the point (`x`, `y`), in 1/[`ONE`] of its radius.
pub(super) fn cover(kind: Kind, x: i32, y: i32) -> bool {
    const fn part(thousandths: i32) -> i32 {
        ONE * thousandths / 1000
    }
    let (x, y) = (x.clamp(-2 * ONE, 2 * ONE), y.clamp(-2 * ONE, 2 * ONE));
    let (ax, ay) = (x.abs(), y.abs());
    let within = |x: i32, y: i32, r: i32| x * x + y * y <= r * r;
    let ring = |inner: i32, outer: i32| within(x, y, part(outer)) && !within(x, y, part(inner));
    match kind {
        Kind::Empty => false,
        Kind::Bolt => {
            (-part(200) <= x && x <= ONE && ay <= part(190)) || (-part(760) <= x && x <= -part(200) && ay <= part(450))
        }
        Kind::Bracket => {
            let arm = ax <= part(780) && part(230) <= y && y <= part(780);
            let leg = -part(780) <= x && x <= -part(230) && ay <= part(780);
            let hole = within(x - part(500), y - part(500), part(140)) || within(x + part(500), y + part(500), part(140));
            (arm || leg) && !hole
        }
        Kind::Gear => gear(x, y),
        Kind::GearChipped => gear(x, y) && !(x > part(740) && ay < part(300)),
        Kind::Nut => {
            // sin 60 degrees = 0.866: distance along the two slanting normals.
            let slant = |s: i32| ((x * 500 + s * y * 866) / 1000).abs() <= part(840);
            ax <= part(840) && slant(1) && slant(-1) && !within(x, y, part(450))
        }
        Kind::Washer => ring(480, 920),
        Kind::WasherCracked => ring(480, 920) && !(x > 0 && ay < part(58)),
    }
}

fn gear(x: i32, y: i32) -> bool {
    let (body, hole, tip, half) = (ONE * 74 / 100, ONE * 22 / 100, ONE, ONE * 13 / 100);
    let r2 = x * x + y * y;
    if r2 <= body * body {
        return r2 > hole * hole;
    }
    // Eight teeth fold onto two: one along x, one along the diagonal (0.7071 = 46341 / 65536).
    let (a, b) = (x.abs().max(y.abs()), x.abs().min(y.abs()));
    let along = (((a + b) as i64 * 46_341) >> 16) as i32;
    let across = (((a - b) as i64 * 46_341) >> 16) as i32;
    (a <= tip && b <= half) || (along <= tip && across <= half)
}

/// Sine and cosine in Q14 of an angle in 1/65536 turns; a fifth-degree polynomial, error below
/// 2^-12.
pub(super) fn sin_cos(angle: u16) -> (i32, i32) {
    (sin(angle), sin(angle.wrapping_add(16_384)))
}

fn sin(angle: u16) -> i32 {
    // z: the angle folded into the first quarter turn, Q14; sin(z pi/2) = z (a - z^2 (b - z^2 c)).
    let (half, within) = (angle >> 15, (angle & 0x7fff) as i64);
    let z = if within > 16_384 { 32_768 - within } else { within };
    let z2 = (z * z) >> 14;
    let s = (z * (25_733 - ((z2 * (10_538 - ((z2 * 1_191) >> 14))) >> 14))) >> 14;
    if half == 1 { -(s as i32) } else { s as i32 }
}
