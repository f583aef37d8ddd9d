//! Bytes as a bundle: as they are, as sections under right hashes, and as format 1 under a right
//! hash, so that the decoders are reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tagpin::bundle::{Bundle, MAGIC, RawSection, Section, assemble, sha256};

fuzz_target!(|data: &[u8]| {
    let _ = Bundle::read(data);
    let Some((&split, payload)) = data.split_first() else { return };

    // Each section: number, critical bit and a length of two bytes, then contents.
    let mut sections = Vec::new();
    let mut rest = payload;
    while let Some((&[id, low, high], behind)) = rest.split_first_chunk() {
        let len = u16::from_le_bytes([low, high]) as usize;
        let (content, behind) = behind.split_at(len.min(behind.len()));
        sections.push(RawSection { id: (id >> 1) as u32, critical: id & 1 == 1, content });
        rest = behind;
    }
    let bytes = assemble(&sections);
    if let Ok(bundle) = Bundle::read(&bytes) {
        assert_eq!(bundle.section(Section::Graph), Some(bundle.graph));
        assert_eq!(bundle.sections().count(), sections.len());
        let again = tagpin::bundle::write(&bundle.contract, bundle.graph, &[]).expect("what was read can be written");
        assert_eq!(Bundle::read(&again).expect("what was written can be read").contract, bundle.contract);
    }

    let contract = payload.len() * split as usize / 255;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(1u32.to_le_bytes());
    bytes.extend((contract as u32).to_le_bytes());
    bytes.extend(((payload.len() - contract) as u32).to_le_bytes());
    bytes.extend(sha256(payload));
    bytes.extend(payload);
    let _ = Bundle::read(&bytes);
});
