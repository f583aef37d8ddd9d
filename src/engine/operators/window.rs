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
    /// Reads a node's window over `input` rows and columns; `kernel`: its rows and columns.
    pub(in crate::engine) fn read(node: &Node, input: [usize; 2], kernel: [usize; 2]) -> Result<Self, Why> {
        let pair = |name: &str| -> Result<[usize; 2], Why> {
            match node.attributes.get(name) {
                None => Ok([1, 1]),
                Some(Attribute::Ints(v)) if v.len() == 2 && v.iter().all(|v| (1..=64).contains(v)) => {
                    Ok([v[0] as usize, v[1] as usize])
                }
                other => Err(format!("{name} {other:?}, expected two of 1..=64")),
            }
        };
        if kernel.iter().any(|k| !(1..=1024).contains(k)) {
            return Err(format!("kernel {kernel:?}"));
        }
        let (stride, dilation) = (pair("strides")?, pair("dilations")?);
        let pads = match node.attributes.get("pads") {
            None => [0; 4],
            Some(Attribute::Ints(v)) if v.len() == 4 && v.iter().all(|v| (0..=1024).contains(v)) => {
                [v[0], v[1], v[2], v[3]].map(|v| v as usize)
            }
            other => return Err(format!("pads {other:?}, expected four of 0..=1024")),
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

/// The kernel's rows and columns that a node says.
pub(in crate::engine) fn kernel_shape(node: &Node) -> Result<Option<[usize; 2]>, Why> {
    match node.attributes.get("kernel_shape") {
        None => Ok(None),
        Some(Attribute::Ints(v)) if v.len() == 2 && v.iter().all(|k| (1..=1024).contains(k)) => {
            Ok(Some([v[0] as usize, v[1] as usize]))
        }
        other => Err(format!("kernel_shape {other:?}, expected two of 1..=1024")),
    }
}
