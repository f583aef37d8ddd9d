//! burn's optimisers behind one type that updates one parameter at a time, with their state as
//! plain numbers for checkpoints.

use anyhow::{Context, Result};
use burn::optim::{
    Adam, AdamConfig, AdamState, AdamW, AdamWConfig, AdamWState, Optimizer, RecordState, Sgd, SgdConfig, SgdState,
    StateSink, StateSource, momentum::MomentumConfig,
};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Which optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OptimiserName {
    /// Stochastic gradient descent with momentum 0.9.
    Sgd,
    /// Kingma and Ba 2015.
    Adam,
    /// Adam with decoupled weight decay of 0.02 (Loshchilov and Hutter 2019).
    Adamw,
}

/// An optimiser.
pub enum Optimiser {
    /// See [`OptimiserName::Sgd`].
    Sgd(Sgd),
    /// See [`OptimiserName::Adam`].
    Adam(Adam),
    /// See [`OptimiserName::Adamw`].
    AdamW(AdamW),
}

/// An optimiser's state for one parameter.
pub enum State {
    /// Of [`Optimiser::Sgd`].
    Sgd(SgdState<2>),
    /// Of [`Optimiser::Adam`].
    Adam(AdamState<2>),
    /// Of [`Optimiser::AdamW`].
    AdamW(AdamWState<2>),
}

/// A state as numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    tensors: Vec<(String, Vec<f32>)>,
    scalars: Vec<(String, u64)>,
}

impl Optimiser {
    /// An optimiser with its usual settings.
    pub fn new(name: OptimiserName) -> Self {
        match name {
            OptimiserName::Sgd => {
                let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
                Self::Sgd(SgdConfig::new().with_momentum(Some(momentum)).build())
            }
            OptimiserName::Adam => Self::Adam(AdamConfig::new().build()),
            OptimiserName::Adamw => Self::AdamW(AdamWConfig::new().with_weight_decay(0.02).build()),
        }
    }

    /// The parameter after one step at `rate`. `state` is replaced.
    pub fn step(&self, rate: f64, parameter: Tensor<2>, gradient: Tensor<2>, state: &mut Option<State>) -> Tensor<2> {
        let (next, kept) = match (self, state.take()) {
            (Self::Sgd(o), Some(State::Sgd(s))) => wrap(o.step(rate, parameter, gradient, Some(s)), State::Sgd),
            (Self::Adam(o), Some(State::Adam(s))) => wrap(o.step(rate, parameter, gradient, Some(s)), State::Adam),
            (Self::AdamW(o), Some(State::AdamW(s))) => wrap(o.step(rate, parameter, gradient, Some(s)), State::AdamW),
            (Self::Sgd(o), _) => wrap(o.step(rate, parameter, gradient, None), State::Sgd),
            (Self::Adam(o), _) => wrap(o.step(rate, parameter, gradient, None), State::Adam),
            (Self::AdamW(o), _) => wrap(o.step(rate, parameter, gradient, None), State::AdamW),
        };
        *state = kept;
        next
    }

    /// A kept state as this optimiser's.
    pub fn restore(&self, kept: &Kept, shape: [usize; 2], device: &Device) -> Result<State> {
        let state = match self {
            Self::Sgd(_) => unflatten(kept, shape, device).map(State::Sgd),
            Self::Adam(_) => unflatten(kept, shape, device).map(State::Adam),
            Self::AdamW(_) => unflatten(kept, shape, device).map(State::AdamW),
        };
        state.context("the checkpoint is of another optimiser; begin again without --resume")
    }
}

fn wrap<S>((next, state): (Tensor<2>, Option<S>), of: fn(S) -> State) -> (Tensor<2>, Option<State>) {
    (next, state.map(of))
}

impl State {
    /// The state as numbers.
    pub fn keep(&self) -> Kept {
        let mut sink = StateSink::default();
        match self {
            Self::Sgd(s) => s.state_flatten("", &mut sink),
            Self::Adam(s) => s.state_flatten("", &mut sink),
            Self::AdamW(s) => s.state_flatten("", &mut sink),
        }
        let values = |data: TensorData| data.convert::<f32>().try_to_vec::<f32>().expect("states are f32");
        Kept {
            tensors: sink.tensors.into_iter().map(|(name, data)| (name, values(data))).collect(),
            // Steps taken; the optimisers keep nothing else.
            scalars: sink.scalars.into_iter().filter_map(|(name, s)| Some((name, u64::try_from(s).ok()?))).collect(),
        }
    }
}

fn unflatten<S: RecordState>(kept: &Kept, shape: [usize; 2], device: &Device) -> Option<S> {
    let mut source = StateSource::new(kept.scalars.iter().map(|(name, v)| (name.clone(), (*v).into())).collect());
    for (name, values) in &kept.tensors {
        if values.len() != shape[0] * shape[1] {
            return None;
        }
        source.insert_tensor(name.clone(), TensorData::new(values.clone(), shape));
    }
    S::state_unflatten("", &mut source, device)
}
