//! Runs an ONNX file by tract in f32: the reference of the tests and the feature extractor of the
//! tools. It is slow and allocates, so never use it on the line.

use super::EngineError;
use super::caught;
use tract_onnx::prelude::*;

/// A model as tract runs it.
pub struct Oracle {
    model: std::sync::Arc<TypedRunnableModel>,
    dims: Vec<usize>,
}

impl Oracle {
    /// Loads a model with one input of shape `dims`.
    pub fn load(onnx: &[u8], dims: &[usize]) -> Result<Self, EngineError> {
        let parse = |e: TractError| EngineError::Parse(format!("{e:#}"));
        let fact = InferenceFact::dt_shape(f32::datum_type(), dims);
        let model = || {
            let model = tract_onnx::onnx().model_for_read(&mut std::io::Cursor::new(onnx))?;
            model.with_input_fact(0, fact)?.into_optimized()?.into_runnable()
        };
        Ok(Self { model: caught(model).map_err(EngineError::Parse)?.map_err(parse)?, dims: dims.to_vec() })
    }

    /// Runs one input, `dims` values in row-major order, and returns all values of the first
    /// output.
    pub fn run(&self, input: &[f32]) -> Result<Vec<f32>, EngineError> {
        Ok(self.run_all(input)?.swap_remove(0))
    }

    /// Runs one input, `dims` values in row-major order, and returns all values of every output, in
    /// the file's order.
    pub fn run_all(&self, input: &[f32]) -> Result<Vec<Vec<f32>>, EngineError> {
        let parse = |e: TractError| EngineError::Parse(format!("{e:#}"));
        let input = Tensor::from_shape(&self.dims, input).map_err(parse)?;
        let outputs = caught(|| self.model.run(tvec!(input.into()))).map_err(EngineError::Parse)?.map_err(parse)?;
        let values = |t: &TValue| {
            let view = t.to_plain_array_view::<f32>().map_err(parse)?;
            // Copied whole where it lies in order: values one by one cost as much as a tenth of the
            // network.
            Ok(view.as_slice().map_or_else(|| view.iter().copied().collect(), <[f32]>::to_vec))
        };
        outputs.iter().map(values).collect()
    }
}
