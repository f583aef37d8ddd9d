//! A bundle survives the round trip, and every kind of damage is named.

use super::*;
use crate::decide::{TagRule, Task};

fn sample() -> Vec<u8> {
    let real = vec![0; 4 * Tables::LEN];
    let int8 = vec![0; Tables::LEN];
    let graph = b"a graph";
    let tag = |name| Tag { name, rule: TagRule::default() };
    let contract = Contract {
        name: "sample",
        task: Task::Multilabel,
        tags: heapless::Vec::from_slice(&[tag("bolt"), tag("nut")]).unwrap(),
        temperature_q16: 65536,
        input: Input {
            height: 96,
            width: 96,
            fit: Fit::Crop,
            tables: Tables { real: &real, int8: &int8 },
            scale: 0.02,
            zero_point: -3,
        },
        graph_sha256: sha256(graph),
        dataset_sha256: [1; 32],
        run_sha256: [2; 32],
        mixed: false,
    };
    write(&contract, graph).unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = sample();
    let bundle = Bundle::read(&bytes).unwrap();
    assert_eq!(bundle.contract.tags[1].name, "nut");
    assert_eq!(bundle.contract.input.fit, Fit::Crop);
    assert_eq!(bundle.graph, b"a graph");
    assert_eq!(write(&bundle.contract, bundle.graph).unwrap(), bytes);
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = sample();
    for n in 0..bytes.len() {
        assert!(Bundle::read(&bytes[..n]).is_err(), "{n} bytes");
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    let mut bytes = sample();
    for at in 0..bytes.len() {
        bytes[at] ^= 1 << (at % 8);
        assert!(Bundle::read(&bytes).is_err(), "byte {at}");
        bytes[at] ^= 1 << (at % 8);
    }
}

#[test]
fn future_versions_and_giants_are_named() {
    let mut bytes = sample();
    bytes[8] = 2;
    assert_eq!(Bundle::read(&bytes).err(), Some(BundleError::Version { found: 2 }));
    bytes[8] = 1;
    bytes[19] = 0xff;
    assert!(matches!(Bundle::read(&bytes), Err(BundleError::Oversized { what: "graph", .. })));
}

/// Random payloads under a right hash reach the decoder; it must refuse them without panicking.
#[test]
fn a_rehashed_mutation_never_panics() {
    let good = sample();
    let mut seed = 11u64;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            let at = HEADER_LEN + (seed >> 33) as usize % (bytes.len() - HEADER_LEN);
            bytes[at] = (seed >> 20) as u8;
        }
        let hash = sha256(&bytes[HEADER_LEN..]);
        bytes[20..HEADER_LEN].copy_from_slice(&hash);
        let _ = Bundle::read(&bytes);
    }
}
