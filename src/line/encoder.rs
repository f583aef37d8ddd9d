//! Turns the edges of an incremental encoder into a belt position. An edge is a channel (A or B)
//! and its new level.

/// Which of the encoder's two signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The first.
    A,
    /// The second, a quarter of a period off.
    B,
}

/// Counts edges: with A alone one per rising edge, with both channels four per period, downwards
/// when the belt runs back.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    quadrature: bool,
    levels: [bool; 2],
    position: i64,
    errors: u64,
}

impl Encoder {
    /// An encoder at position 0. `quadrature`: whether channel B is connected. `levels`: of A and B
    /// now.
    pub const fn new(quadrature: bool, levels: [bool; 2]) -> Self {
        Self { quadrature, levels, position: 0, errors: 0 }
    }

    /// Takes an edge of `channel` to `level` and returns the position after it.
    ///
    /// An edge to the level that the channel already has means that one was lost; it is counted in
    /// [`Encoder::errors`].
    pub fn edge(&mut self, channel: Channel, level: bool) -> i64 {
        let known = &mut self.levels[channel as usize];
        if *known == level {
            self.errors += 1;
            return self.position;
        }
        *known = level;
        if !self.quadrature {
            self.position += (channel == Channel::A && level) as i64;
            return self.position;
        }
        // Forward, the levels (A, B) go 00, 10, 11, 01: A moves to what B is not, B moves to what A
        // is.
        let [a, b] = self.levels;
        let forward = match channel {
            Channel::A => a != b,
            Channel::B => a == b,
        };
        self.position += if forward { 1 } else { -1 };
        self.position
    }

    /// A channel is at `level`, and no edge of it counts before this.
    pub fn sync(&mut self, channel: Channel, level: bool) {
        self.levels[channel as usize] = level;
    }

    /// The position in counts.
    pub const fn position(&self) -> i64 {
        self.position
    }

    /// Edges that must have been lost.
    pub const fn errors(&self) -> u64 {
        self.errors
    }
}
