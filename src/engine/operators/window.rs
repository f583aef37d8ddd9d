//! Where a kernel goes over its input: strides, dilations, padding, output size.
//!
//! Of convolutions and pools alike; their shape rules and their lowering read it here.

use super::Why;
use crate::engine::proto::{Attribute, Node};

/// Where a kernel goes over its input.
pub(in crate::engine) struct Window {
    pub(in crate::engine) output: [usize; 2],
    pub(in crate::engine) stride: [usize; 2],
    pub(in crate::engine) dilation: [usize; 2],
    pub(in crate::engine) pad: [usize; 2],
}

impl Window {
    /// Reads a node's window over `input` rows and columns; `kernel`: its rows and columns. `axes`:
    /// those that the node speaks of, 2, or 1 where there is but one row.
    pub(in crate::engine) fn read(node: &Node, axes: usize, input: [usize; 2], kernel: [usize; 2]) -> Result<Self, Why> {
        let pair = |name: &str| -> Result<[usize; 2], Why> {
            let fits = |v: &[i64]| v.len() == axes && v.iter().all(|v| (1..=64).contains(v));
            match node.attributes.get(name) {
                None => Ok([1, 1]),
                Some(Attribute::Ints(v)) if fits(v) => Ok(lifted(v, 1)),
                other => Err(format!("{name} {other:?}, expected {axes} of 1..=64")),
            }
        };
        if kernel.iter().any(|k| !(1..=1024).contains(k)) {
            return Err(format!("kernel {kernel:?}"));
        }
        let (stride, dilation) = (pair("strides")?, pair("dilations")?);
        let pads = match node.attributes.get("pads") {
            None => [0; 4],
            Some(Attribute::Ints(v)) if v.len() == 2 * axes && v.iter().all(|v| (0..=1024).contains(v)) => {
                let ([top, left], [bottom, right]) = (lifted(&v[..axes], 0), lifted(&v[axes..], 0));
                [top, left, bottom, right]
            }
            other => return Err(format!("pads {other:?}, expected {} of 0..=1024", 2 * axes)),
        };
        let auto = match node.attributes.get("auto_pad") {
            None => "NOTSET",
            Some(Attribute::Text(t)) => t,
            _ => return Err("auto_pad must be text".into()),
        };
        if auto != "NOTSET" && pads != [0; 4] {
            return Err(format!("auto_pad {auto} beside pads {pads:?}, expected one of both"));
        }
        let ceil = matches!(node.attributes.get("ceil_mode"), Some(Attribute::Int(1)));
        let (mut output, mut pad) = ([0; 2], [0; 2]);
        for axis in 0..2 {
            let reach = (kernel[axis] - 1) * dilation[axis] + 1;
            let (before, after) = match auto {
                "NOTSET" => (pads[axis], pads[axis + 2]),
                "VALID" => (0, 0),
                "SAME_UPPER" | "SAME_LOWER" => {
                    let out = input[axis].div_ceil(stride[axis]);
                    let total = ((out - 1) * stride[axis] + reach).saturating_sub(input[axis]);
                    let small = total / 2;
                    if auto == "SAME_UPPER" { (small, total - small) } else { (total - small, small) }
                }
                other => return Err(format!("auto_pad {other}")),
            };
            let room = (input[axis] + before + after).checked_sub(reach).ok_or("the kernel is larger than its input")?;
            output[axis] = if ceil { room.div_ceil(stride[axis]) } else { room / stride[axis] } + 1;
            // ONNX drops a window that would begin in the padding behind the input.
            if ceil && (output[axis] - 1) * stride[axis] >= input[axis] + before {
                output[axis] -= 1;
            }
            pad[axis] = before;
        }
        Ok(Self { output, stride, dilation, pad })
    }
}

/// Numbers for rows and columns; of one axis alone they are the columns'.
fn lifted(numbers: &[i64], row: usize) -> [usize; 2] {
    match *numbers {
        [rows, columns] => [rows as usize, columns as usize],
        _ => [row, numbers[0] as usize],
    }
}

/// The kernel's rows and columns that a node says; `axes`: as in [`Window::read`].
pub(in crate::engine) fn kernel_shape(node: &Node, axes: usize) -> Result<Option<[usize; 2]>, Why> {
    match node.attributes.get("kernel_shape") {
        None => Ok(None),
        Some(Attribute::Ints(v)) if v.len() == axes && v.iter().all(|k| (1..=1024).contains(k)) => Ok(Some(lifted(v, 1))),
        other => Err(format!("kernel_shape {other:?}, expected {axes} of 1..=1024")),
    }
}
