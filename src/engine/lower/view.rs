//! How an ONNX tensor lies in an activation: which place of it each index means.
//!
//! An activation is a row of bytes; a convolution's lies as rows, columns, channels (NHWC), while
//! ONNX says batch, channels, rows, columns. Each *axis* of the ONNX tensor is a list of *factors*,
//! a size and a distance in bytes, outermost first. An axis of an image is one factor; where a
//! Reshape joins channels and pixels into one axis, that axis is several. So a Transpose permutes
//! axes, a Reshape regroups factors, and both move nothing. Bytes are moved when an operator needs
//! another order than they have.

/// One factor of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Factor {
    n: usize,
    stride: usize,
}

/// The axes of an ONNX tensor over an activation. Each place of the activation belongs to exactly
/// one index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Axes(Vec<Vec<Factor>>);

/// Without factors of one value, and with those joined that are one run of bytes: one form for each
/// meaning.
fn simplest(factors: impl IntoIterator<Item = Factor>) -> Vec<Factor> {
    let mut simple: Vec<Factor> = Vec::new();
    for f in factors.into_iter().filter(|f| f.n != 1) {
        match simple.last_mut() {
            Some(outer) if outer.stride == f.n * f.stride => *outer = Factor { n: outer.n * f.n, stride: f.stride },
            _ => simple.push(f),
        }
    }
    simple
}

impl Axes {
    /// A tensor that lies in ONNX's own order.
    pub(super) fn rows(dims: &[usize]) -> Self {
        let strides = crate::engine::operators::strides(dims);
        Self(dims.iter().zip(strides).map(|(&n, stride)| simplest([Factor { n, stride }])).collect())
    }

    /// `[1, c, h, w]` that lies as rows, columns, channels.
    pub(super) fn image([h, w, c]: [usize; 3]) -> Self {
        let axis = |n, stride| simplest([Factor { n, stride }]);
        Self(vec![vec![], axis(c, 1), axis(h, w * c), axis(w, c)])
    }

    /// How a new tensor of this shape is laid: images as kernels want them, everything else in
    /// ONNX's order.
    pub(super) fn natural(dims: &[usize]) -> Self {
        match *dims {
            [1, c, h, w] => Self::image([h, w, c]),
            _ => Self::rows(dims),
        }
    }

    /// The ONNX shape.
    pub(super) fn dims(&self) -> Vec<usize> {
        self.0.iter().map(|axis| axis.iter().map(|f| f.n).product()).collect()
    }

    pub(super) fn transposed(&self, perm: &[usize]) -> Self {
        Self(perm.iter().map(|&p| self.0[p].clone()).collect())
    }

    /// The same bytes by another shape of as many values; `None` where an axis would have to begin
    /// inside a factor that cannot be divided so.
    pub(super) fn reshaped(&self, to: &[usize]) -> Option<Self> {
        let mut factors = simplest(self.0.iter().flatten().copied()).into_iter();
        let mut rest: Option<Factor> = None;
        let mut axes = Vec::with_capacity(to.len());
        for &d in to {
            let (mut axis, mut left) = (Vec::new(), d);
            while left > 1 {
                let f = rest.take().or_else(|| factors.next())?;
                if left.is_multiple_of(f.n) {
                    axis.push(f);
                    left /= f.n;
                } else if f.n.is_multiple_of(left) {
                    let inner = f.n / left;
                    axis.push(Factor { n: left, stride: f.stride * inner });
                    rest = Some(Factor { n: inner, stride: f.stride });
                    left = 1;
                } else {
                    return None;
                }
            }
            axes.push(simplest(axis));
        }
        (rest.is_none() && factors.next().is_none()).then_some(Self(axes))
    }

    /// Whether this is the exchange of groups and what is in them, in an image that else lies as it
    /// should: the groups.
    pub(super) fn shuffled(&self) -> Option<usize> {
        let &[_, c, h, w] = self.dims().as_slice() else { return None };
        let [inner, outer] = self.0[1].as_slice() else { return None };
        let image = Self::image([h, w, c]);
        let exchanged = inner.stride == 1 && outer.stride == inner.n;
        (exchanged && self.0[0] == image.0[0] && self.0[2..] == image.0[2..]).then_some(outer.n)
    }

    /// Whether neighbours along this axis are neighbours in memory, and everything else repeats
    /// over them.
    pub(super) fn is_innermost(&self, axis: usize) -> bool {
        matches!(self.0[axis].as_slice(), [f] if f.stride == 1)
    }

    /// The place of each index, in ONNX's order, of this tensor after it was broadcast to `to`.
    pub(super) fn places_in(&self, to: &[usize]) -> Vec<u32> {
        let missing = to.len() - self.0.len();
        let mut places = vec![0u32];
        for (axis, &n) in to.iter().enumerate() {
            let own = axis.checked_sub(missing).map_or(&[][..], |own| self.0[own].as_slice());
            if own.is_empty() {
                places = places.iter().flat_map(|&p| std::iter::repeat_n(p, n)).collect();
            }
            for f in own {
                let step = |p: u32| (0..f.n).map(move |i| p + (i * f.stride) as u32);
                places = places.iter().flat_map(|&p| step(p)).collect();
            }
        }
        places
    }

    /// The place of each index, in ONNX's order.
    pub(super) fn places(&self) -> Vec<u32> {
        self.places_in(&self.dims())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reshapes and transposes as row-major tensors have them, value by value.
    #[test]
    fn reshapes_and_transposes_mean_what_they_mean_to_onnx() {
        let (h, w, c) = (3, 4, 6);
        let image = Axes::image([h, w, c]);
        let nchw: Vec<u32> =
            (0..c).flat_map(|c| (0..h).flat_map(move |y| (0..w).map(move |x| ((y * 4 + x) * 6 + c) as u32))).collect();
        assert_eq!(image.places(), nchw);
        let flat = image.reshaped(&[1, h * w * c]).unwrap();
        assert_eq!(flat.places(), nchw);
        let back = flat.reshaped(&[1, c, h, w]).unwrap();
        assert_eq!(back, image);
        let groups = image.reshaped(&[1, 2, 3, h, w]).unwrap().transposed(&[0, 2, 1, 3, 4]);
        let shuffled = groups.reshaped(&[1, c, h, w]).unwrap();
        assert_eq!(shuffled.shuffled(), Some(2));
        assert_eq!(image.shuffled(), None);
        for (i, place) in shuffled.places().into_iter().enumerate() {
            let (channel, pixel) = (i / (h * w), i % (h * w));
            assert_eq!(place as usize, pixel * c + channel % 2 * 3 + channel / 2);
        }
        let nhwc = image.transposed(&[0, 2, 3, 1]);
        assert_eq!(nhwc, Axes::rows(&[1, h, w, c]));
    }

    #[test]
    fn an_axis_that_begins_inside_a_factor_is_none() {
        let image = Axes::image([3, 4, 6]);
        assert_eq!(image.reshaped(&[4, 18]), None, "6 channels are no multiple of 4");
        assert_eq!(image.reshaped(&[1, 6, 12, 2]), None, "more values");
        assert_eq!(Axes::rows(&[6, 12]).reshaped(&[4, 18]), Some(Axes::rows(&[4, 18])));
    }

    #[test]
    fn a_broadcast_repeats_places() {
        let gate = Axes::rows(&[1, 2, 1, 1]);
        assert_eq!(gate.places_in(&[1, 2, 1, 3]), [0, 0, 0, 1, 1, 1]);
        assert_eq!(Axes::rows(&[3]).places_in(&[2, 3]), [0, 1, 2, 0, 1, 2]);
    }
}
