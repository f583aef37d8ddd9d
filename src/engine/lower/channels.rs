//! Lowers operators that only move values: concatenate, split, slice, transpose, reshape.
//!
//! Most move no bytes: they only change how the same bytes are read (see [`view`](super::view)).

use super::{Axes, Kind, Lowering, Pending, Value, View, Why};
use crate::engine::operation::Operation;
use crate::engine::operators::{Taken, axis_of, sliced, taken};
use crate::engine::proto::{Attribute, Node};
use std::rc::Rc;

/// The axis of the input that each axis of a Transpose's output is.
pub(super) fn permutation(node: &Node, rank: usize) -> Vec<usize> {
    match node.attributes.get("perm") {
        Some(Attribute::Ints(perm)) => perm.iter().map(|&p| usize::try_from(p).unwrap_or(usize::MAX)).collect(),
        _ => (0..rank).rev().collect(),
    }
}

impl<'g> Lowering<'g> {
    /// A whole-number attribute.
    fn axis(&self, node: &'g Node, rank: usize) -> Result<usize, Why> {
        let axis = if let Some(Attribute::Int(axis)) = node.attributes.get("axis") { *axis } else { 0 };
        axis_of(axis, rank)
    }

    /// Parts laid so that a join copies runs, and the length of each one's runs.
    fn runs(&mut self, parts: &[View], axis: usize, to: &Axes) -> Result<Vec<(super::TensorId, usize)>, Why> {
        let image = matches!(to.dims().as_slice(), &[1, _, h, w] if *to == Axes::image([h, w, to.dims()[1]]));
        let mut runs = Vec::with_capacity(parts.len());
        for part in parts {
            let dims = part.axes.dims();
            let (axes, run) = match (image, dims.as_slice()) {
                (true, &[1, c, h, w]) => {
                    let run = [h * w * c, c, h * w * c, w * c][axis];
                    (Axes::image([h, w, c]), run)
                }
                _ => (Axes::rows(&dims), dims[axis..].iter().product()),
            };
            runs.push((self.arrange(part, axes)?, run));
        }
        Ok(runs)
    }

    pub(super) fn concat_of(&mut self, node: &'g Node, parts: &[View]) -> Result<Pending, Why> {
        let (_, dims) = self.made(node)?;
        let (axis, axes) = (self.axis(node, dims.len())?, Axes::natural(dims));
        let runs = self.runs(parts, axis, &axes)?;
        Ok(Pending::new(Kind::Concat(runs), axes, self.at))
    }

    pub(super) fn concat(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        if let Value::Int(first) = self.take(node, 0)? {
            let quant = self.get(first.id).quant;
            let part = |i| match self.take(node, i)? {
                Value::Int(view) if self.get(view.id).quant == quant => Ok(view),
                Value::Int(_) => Err("its int8 parts have other scales or zero points than one another".to_string()),
                other => Err(format!("input {i} is {}, input 0 an int8 tensor", other.describe())),
            };
            let parts: Vec<View> = (0..node.inputs.len()).map(part).collect::<Result<_, _>>()?;
            let pending = self.concat_of(node, &parts)?;
            return self.emit(&pending, quant).map(Value::Int);
        }
        let parts: Vec<View> = (0..node.inputs.len()).map(|i| self.real(node, i)).collect::<Result<_, _>>()?;
        self.concat_of(node, &parts).map(Value::Pending)
    }

    /// What a slice of each axis leaves of a value.
    fn part(&mut self, value: &Value<'g>, taken: &[Taken]) -> Result<Value<'g>, Why> {
        match value {
            Value::Int(view) => self.part_of(view, taken).map(Value::Int),
            Value::Real(view) => self.part_of(view, taken).map(Value::Real),
            Value::Function { view, values } => {
                Ok(Value::Function { view: self.part_of(view, taken)?, values: values.clone() })
            }
            other => Err(format!("input is {}, expected an int8 tensor or its real view", other.describe())),
        }
    }

    fn part_of(&mut self, view: &View, taken: &[Taken]) -> Result<View, Why> {
        let dims = view.axes.dims();
        let whole = |axis: usize| taken[axis] == Taken { start: 0, step: 1, n: dims[axis] };
        if (0..dims.len()).all(whole) {
            return Ok(view.clone());
        }
        let to: Vec<usize> = taken.iter().map(|t| t.n).collect();
        let quant = self.get(view.id).quant;
        let part = self.natural(&to, quant)?;
        let operation = match (dims.as_slice(), taken) {
            (&[1, all, h, w], &[_, Taken { start: at, step: 1, n: channels }, ..])
                if view.axes == Axes::image([h, w, all]) && [0, 2, 3].into_iter().all(whole) =>
            {
                Operation::TakeChannels { all, at, channels }
            }
            _ => {
                let places = || {
                    let places = view.axes.places();
                    (part.axes.places(), sliced(&dims, taken).into_iter().map(|i| places[i]).collect())
                };
                self.moved(self.get(view.id).len, places)?
            }
        };
        self.push(self.at, operation, vec![view.id], part.id);
        Ok(part)
    }

    pub(super) fn split(&mut self, node: &'g Node) -> Result<Vec<Value<'g>>, Why> {
        let (value, dims) = (self.take(node, 0)?, self.dims(node, 0)?);
        let axis = self.axis(node, dims.len())?;
        let (mut at, mut parts) = (0, Vec::with_capacity(node.outputs.len()));
        // The reader's shape rule gave the parts their sizes; one without a name is computed by
        // nobody.
        for (i, out) in node.outputs.iter().enumerate() {
            let n = match self.reading.dims(out) {
                Some(dims) => dims[axis],
                None => return Err(format!("output {i} is left out")),
            };
            let mut taken: Vec<Taken> = dims.iter().map(|&n| Taken { start: 0, step: 1, n }).collect();
            taken[axis] = Taken { start: at, step: 1, n };
            parts.push(self.part(&value, &taken)?);
            at += n;
        }
        Ok(parts)
    }

    pub(super) fn slice(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let value = self.take(node, 0)?;
        let numbers = |i, what| self.whole_numbers(node, i, what);
        let starts = numbers(1, "starts")?.ok_or("its starts are missing")?;
        let ends = numbers(2, "ends")?.ok_or("its ends are missing")?;
        let (axes, steps) = (numbers(3, "axes")?, numbers(4, "steps")?);
        let taken = taken(self.dims(node, 0)?, [&starts, &ends], axes.as_deref(), steps.as_deref())?;
        if taken.iter().any(|t| t.n == 0) {
            return Err("nothing is left of it".into());
        }
        self.part(&value, &taken)
    }

    /// A value whose axes are read in another way; `f` gives the new ones, or `None` where bytes
    /// have to be moved for it.
    fn axes_changed(&mut self, value: Value<'g>, f: impl Fn(&Axes) -> Option<Axes> + Copy) -> Result<Value<'g>, Why> {
        const WAITS: &str = "its values would have to be moved before they are quantised";
        let view = |l: &mut Self, view: View| match f(&view.axes) {
            Some(axes) => Ok(View { axes, ..view }),
            None => {
                let rows = Axes::rows(&view.axes.dims());
                let id = l.arrange(&view, rows.clone())?;
                f(&rows).map(|axes| View { id, axes }).ok_or_else(|| "its shape does not divide so".to_string())
            }
        };
        Ok(match value {
            Value::Input(axes) => Value::Input(f(&axes).ok_or(WAITS)?),
            Value::Codes(axes) => Value::Codes(f(&axes).ok_or(WAITS)?),
            Value::Int(v) => Value::Int(view(self, v)?),
            Value::Real(v) => Value::Real(view(self, v)?),
            Value::Function { view: v, values } => Value::Function { view: view(self, v)?, values },
            Value::Pending(p) => Value::Pending(Pending { axes: f(&p.axes).ok_or(WAITS)?, ..p }),
            Value::Float { name, axes } => Value::Float { name, axes: f(&axes).ok_or(WAITS)? },
            Value::Scores(inner, what) => Value::Scores(Box::new(self.axes_changed(*inner, f)?), what),
            other => return Err(format!("input is {}", other.describe())),
        })
    }

    pub(super) fn transpose(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let perm = permutation(node, self.dims(node, 0)?.len());
        match self.take(node, 0)? {
            Value::Weights(w) => Ok(Value::Weights(Rc::new(w.transposed(&perm)))),
            value => self.axes_changed(value, |axes| Some(axes.transposed(&perm))),
        }
    }

    /// Reshape and its kin.
    pub(super) fn reshape(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let (_, to) = self.made(node)?;
        let value = match self.take(node, 0)? {
            Value::Weights(w) => {
                let reshaped = w.reshaped(to).ok_or_else(|| format!("to {to:?}, which its scales do not follow"))?;
                return Ok(Value::Weights(Rc::new(reshaped)));
            }
            value => self.axes_changed(value, |axes| axes.reshaped(to))?,
        };
        // The end of a channel shuffle: moved here, so that the report shows it at its place.
        let shuffled = |view: &View| view.axes.shuffled().is_some();
        match value {
            Value::Int(view) if shuffled(&view) => self.settled(&view).map(Value::Int),
            Value::Real(view) if shuffled(&view) => self.settled(&view).map(Value::Real),
            value => Ok(value),
        }
    }

    /// The same tensor as kernels want it.
    fn settled(&mut self, view: &View) -> Result<View, Why> {
        let axes = Axes::natural(&view.axes.dims());
        Ok(View { id: self.arrange(view, axes.clone())?, axes })
    }
}
