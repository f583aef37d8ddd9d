//! What a run is, for its first event: device, bundle, tags and outputs by name.

use super::hex;
use crate::board::Board;
use crate::bundle::Bundle;
use crate::decide::Role;
use crate::events::record::probability;
use crate::events::run::{Device, Opening, OutputRecord, TagRecord};
use crate::line::Travel;
use crate::settings::{Drive, Mode, OutputSettings, Settings};
use crate::sources::{Automatic, Source};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The run's opening.
pub(super) fn of(
    bundle: &Bundle<'_>,
    settings: &Settings,
    board: &Board,
    kernels: &'static str,
    source: &dyn Source,
) -> Opening {
    let contract = &bundle.contract;
    let roles = contract.tags.iter().map(|t| t.role).chain(std::iter::repeat(Role::Other));
    let names = settings.names(contract.tags.iter().map(|t| t.name));
    let tags = names.zip(roles).zip(&settings.tags).map(|((name, role), policy)| TagRecord {
        tag: name.into(),
        role,
        action: policy.action.name(),
        threshold: probability(policy.rule.threshold),
        review_low: probability(policy.rule.review_low),
    });
    Opening {
        version: VERSION,
        device: Device { board: board.model(), kernels, version: VERSION },
        source: settings.source.clone(),
        time: source.timed_by().name(),
        automatic: source.automatics().into_iter().map(Automatic::name).collect(),
        kernel: kernels,
        bundle_sha256: hex(&bundle.sha256),
        bundle: crate::update::record(bundle),
        tags: tags.collect(),
        outputs: settings.outputs.iter().map(output).collect(),
        files: source.files(),
        image: [u32::from(contract.input.width), u32::from(contract.input.height)],
    }
}

fn output(o: &OutputSettings) -> OutputRecord {
    let (mode, width) = match (&o.drive, o.mode) {
        (Drive::Busy, _) => ("busy", None),
        (Drive::Ready, _) => ("ready", None),
        (Drive::Fault, _) => ("fault", None),
        (Drive::Trigger, Mode::Pulse(width)) => ("trigger", Some(width.micros().0)),
        (Drive::Trigger, Mode::Level | Mode::Latched) => ("trigger", None),
        (Drive::Heartbeat(period), _) => ("heartbeat", Some(period.micros().0 / 2)),
        (Drive::Calls(_), Mode::Level) => ("level", None),
        (Drive::Calls(_), Mode::Pulse(width)) => ("pulse", Some(width.micros().0)),
        (Drive::Calls(_), Mode::Latched) => ("latched", None),
    };
    let (delay, delay_counts) = match (&o.drive, o.delay) {
        (Drive::Calls(_) | Drive::Trigger, Travel::Time(span)) => (Some(span.0), None),
        (Drive::Calls(_) | Drive::Trigger, Travel::Counts(counts)) => (None, Some(counts)),
        _ => (None, None),
    };
    OutputRecord {
        output: o.name.clone(),
        backend: o.backend.name(),
        place: o.backend.to_string(),
        mode,
        width,
        delay,
        delay_counts,
        safe: o.safe,
    }
}
