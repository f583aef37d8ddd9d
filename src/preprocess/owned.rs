//! A preprocessor that owns its buffers. It makes a new plan, and allocates, only when the layout
//! of the frames changes.

use super::{Plan, PlanError, Target};
use crate::frame::{FrameView, Layout};

/// Stage A with buffers of its own.
#[derive(Clone, Debug)]
pub struct Preprocessor {
    target: Target,
    plan: Option<Plan>,
    taps: Vec<u16>,
    scratch: Vec<u16>,
    rgb: Vec<u8>,
}

impl Preprocessor {
    /// A preprocessor for images of `target`'s size.
    pub fn new(target: Target) -> Self {
        let rgb = vec![0; target.width as usize * target.height as usize * 3];
        Self { target, plan: None, taps: Vec::new(), scratch: Vec::new(), rgb }
    }

    /// Plans for frames of `layout`, so that the next frame allocates nothing. The error says why
    /// such frames cannot be used.
    pub fn prepare(&mut self, layout: Layout) -> Result<(), PlanError> {
        if self.plan.is_some_and(|p| p.layout() == layout) {
            return Ok(());
        }
        self.taps.resize(Plan::taps_len(layout, self.target)?, 0);
        let plan = Plan::new(layout, self.target, &mut self.taps)?;
        self.scratch.resize(plan.scratch_len(), 0);
        self.plan = Some(plan);
        Ok(())
    }

    /// The model's image of `frame`, `[height, width, 3]` RGB8.
    pub fn image(&mut self, frame: &FrameView<'_>) -> Result<&[u8], PlanError> {
        self.prepare(frame.layout())?;
        let plan = self.plan.as_ref().expect("prepare made it");
        plan.run(frame, &self.taps, &mut self.scratch, &mut self.rgb);
        Ok(&self.rgb)
    }

    /// Columns of the model's image.
    pub fn width(&self) -> usize {
        self.target.width as usize
    }

    /// The last image made; black before the first.
    pub fn last(&self) -> &[u8] {
        &self.rgb
    }
}
