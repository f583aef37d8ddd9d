//! What fails on the simulated line, and how often.

/// What fails on the simulated line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A frame never arrives.
    FrameLost,
    /// A frame arrives damaged.
    FrameCorrupt,
    /// The camera is gone for up to three seconds.
    CameraGone,
    /// The engine fails on a frame.
    Engine,
    /// The next part touches this one.
    Touching,
    /// An output cannot be written.
    Write,
    /// A trigger is told up to 70 ms after its moment.
    ToldLate,
    /// The line's program does not run for up to 1.5 s, as if stopped.
    Stall,
    /// A part that the model cannot tell: frames beyond the distance limit.
    Foreign,
    /// The camera gives one frame again and again for up to two seconds.
    Frozen,
    /// The program ends and is started again after up to three seconds.
    Restart,
    /// A part is not seen behind its gate in time.
    NotThrown,
    /// Something is seen behind the gate that was not thrown out.
    Stray,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::FrameLost,
        Self::FrameCorrupt,
        Self::CameraGone,
        Self::Engine,
        Self::Touching,
        Self::Write,
        Self::ToldLate,
        Self::Stall,
        Self::Foreign,
        Self::Frozen,
        Self::Restart,
        Self::NotThrown,
        Self::Stray,
    ];

    /// All kinds, at the rates of the long run: in a million frames, parts or moments.
    pub fn rates() -> Vec<(Self, u32)> {
        vec![
            (Self::FrameLost, 5000),
            (Self::FrameCorrupt, 3000),
            (Self::CameraGone, 20),
            (Self::Engine, 1000),
            (Self::Touching, 1000),
            (Self::Write, 500),
            (Self::ToldLate, 30_000),
            (Self::Stall, 100),
            (Self::Foreign, 5000),
            (Self::Frozen, 100),
            (Self::Restart, 20),
            (Self::NotThrown, 20_000),
            (Self::Stray, 1000),
        ]
    }

    /// The name used on the command line and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FrameLost => "lost",
            Self::FrameCorrupt => "corrupt",
            Self::CameraGone => "gone",
            Self::Engine => "engine",
            Self::Touching => "touching",
            Self::Write => "write",
            Self::ToldLate => "told_late",
            Self::Stall => "stall",
            Self::Foreign => "foreign",
            Self::Frozen => "frozen",
            Self::Restart => "restart",
            Self::NotThrown => "not_thrown",
            Self::Stray => "stray",
        }
    }
}
