//! A bundle survives the round trip, every kind of damage is named, and format 1 is read as ever.

use super::encoding::Format1;
use super::*;
use crate::category::CategoryFault;
use crate::decide::{Role, TagRule, Task};
use crate::distance::{Axis, Distance, Fit as Spreading, SpreadFault, Stage};
use crate::head::Score;
use crate::random::Random;

const REAL: [u8; 4 * Tables::LEN] = [0; 4 * Tables::LEN];
const INT8: [u8; Tables::LEN] = [0; Tables::LEN];
const GRAPH: &[u8] = b"a graph";

/// The bundle of FORMAT.md's example.
fn contract() -> Contract<'static> {
    let tag = |name, role| Tag { name, rule: TagRule::default(), role };
    Contract {
        name: "sample",
        task: Task::Multilabel,
        tags: heapless::Vec::from_slice(&[tag("bolt", Role::Good), tag("crack", Role::Defect)]).unwrap(),
        temperature_q16: 65536,
        input: Input {
            height: 96,
            width: 96,
            fit: Fit::Crop,
            tables: Tables { real: &REAL, int8: &INT8 },
            scale: 0.02,
            zero_point: -3,
        },
        graph_sha256: sha256(GRAPH),
        dataset_sha256: [1; 32],
        run_sha256: [2; 32],
        mixed: false,
    }
}

fn sample() -> Vec<u8> {
    write(&contract(), GRAPH, &[]).unwrap()
}

/// The distance section of FORMAT.md's second example.
fn distance() -> Vec<u8> {
    Spreading {
        stages: &[Stage { name: "s", channels: 1, positions: 4 }],
        limit: Distance::from_real(3.0),
        false_reject_ppm: 10_000,
        fitted: 500,
        left_out: 120,
        centres: &[3 * 4096, 4096],
        scales: &[Spreading::scale(2.0), Spreading::scale(1.0)],
        axes: &[Axis::new([0.6, -0.8], 2.0)],
        rest: Spreading::weight(0.5),
    }
    .section()
}

/// The categories section of FORMAT.md's third example.
fn categories() -> Vec<u8> {
    crate::category::section(&[("animal", None), ("cat", Some(0)), ("vehicle", None)], &[Some(1), Some(0), Some(2), None])
}

/// A format-1 file, whose writer is gone.
fn format_1(contract: &Contract<'_>, graph: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; MAX_CONTRACT as usize];
    let encoded: &[u8] = postcard::to_slice(&Format1::of(contract), &mut buffer).unwrap();
    let lengths = [encoded.len() as u32, graph.len() as u32].map(u32::to_le_bytes).concat();
    let payload = [encoded, graph].concat();
    [MAGIC.as_slice(), &1u32.to_le_bytes(), &lengths, &sha256(&payload), &payload].concat()
}

/// A section as a test wants it: number, flags, contents.
type Drawn = (u32, u32, Vec<u8>);

/// A file of sections with any flags, lengths and hashes being right: what [`assemble`] makes,
/// written a second time.
fn file(sections: &[Drawn]) -> Vec<u8> {
    let line = |(id, flags, content): &Drawn| {
        [id.to_le_bytes(), flags.to_le_bytes(), (content.len() as u32).to_le_bytes()]
            .concat()
            .into_iter()
            .chain(sha256(content))
    };
    let table: Vec<u8> = sections.iter().flat_map(line).collect();
    let mut bytes =
        [MAGIC.as_slice(), &2u32.to_le_bytes(), &(sections.len() as u32).to_le_bytes(), &sha256(&table), &table].concat();
    sections.iter().for_each(|s| bytes.extend(&s.2));
    bytes
}

/// The sections of a bundle.
fn taken_apart(bytes: &[u8]) -> Vec<Drawn> {
    let bundle = Bundle::read(bytes).unwrap();
    let mut at = HEADER_LEN + bundle.sections().count() * sections::ENTRY_LEN;
    let take = |e: Entry<'_>| {
        at += e.len as usize;
        (e.id.0, e.critical() as u32, bytes[at - e.len as usize..at].to_vec())
    };
    bundle.sections().map(take).collect()
}

/// The seed and the number of cases of a random test: `TAGPIN_TEST_SEED`, `TAGPIN_TEST_CASES`.
/// Printed, so that a failure can be run again.
fn draws(cases: u64) -> (u64, u64) {
    let number = |key: &str, or: u64| std::env::var(key).map_or(or, |v| v.parse().expect("it is a number"));
    let (seed, cases) = (number("TAGPIN_TEST_SEED", 11), number("TAGPIN_TEST_CASES", cases));
    eprintln!("TAGPIN_TEST_SEED={seed} TAGPIN_TEST_CASES={cases}");
    (seed, cases)
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = write(&contract(), GRAPH, &[(Section::Layout, b"ab"), (Section::References, b"")]).unwrap();
    let bundle = Bundle::read(&bytes).unwrap();
    assert_eq!(bundle.contract, contract());
    assert_eq!((bundle.graph, bundle.format), (GRAPH, 2));
    assert_eq!(bundle.section(Section::Layout), Some(b"ab".as_slice()));
    assert_eq!(bundle.section(Section::References), Some(b"".as_slice()));
    assert_eq!(bundle.section(Section::SelfTest), None);
    assert!(bundle.spread.is_none());
    let table: Vec<(u32, bool)> = bundle.sections().map(|e| (e.id.0, e.critical())).collect();
    assert_eq!(table, [(1, true), (2, true), (3, true), (5, false), (7, false)]);
    let table = &bytes[HEADER_LEN..HEADER_LEN + 5 * sections::ENTRY_LEN];
    assert_eq!(bundle.sha256, sha256(table), "the identity is the table's hash");
    assert_ne!(bundle.sha256, Bundle::read(&sample()).unwrap().sha256, "a section that is skipped counts too");
}

#[test]
fn a_distance_is_read_with_the_bundle() {
    let bytes = write(&contract(), GRAPH, &[(Section::Distance, &distance())]).unwrap();
    let bundle = Bundle::read(&bytes).unwrap();
    assert_eq!(bundle.section(Section::Distance), Some(distance().as_slice()));
    assert!(bundle.sections().any(|e| e.id.0 == 4 && e.critical()));
    let spread = bundle.spread.unwrap();
    assert_eq!((spread.features(), spread.rank(), spread.limit().real()), (2, 1, 3.0));
}

/// A self-test of any number of bytes is read exactly if FORMAT.md allows it, with its images and
/// logits in their order.
#[test]
fn a_self_test_is_read_with_the_bundle_or_its_lengths_are_refused() {
    let (seed, cases) = draws(60);
    let each = 96 * 96 * 3;
    let mut read = 0;
    for case in 0..cases {
        let mut random = Random::new(seed, case);
        let images = random.range(0, 18) as usize;
        let (more_bytes, more_logits) = if case % 3 == 0 { (0, 0) } else { (random.range(-1, 1), random.range(-1, 1)) };
        let image_bytes: Vec<u8> = (0..(images * each) as i32 + more_bytes).map(|_| random.range(0, 255) as u8).collect();
        let logits: Vec<i32> =
            (0..2 * images as i32 + more_logits).map(|_| random.range(-1_000_000_000, 1_000_000_000)).collect();
        let section = SelfTest::section(&image_bytes, &logits);
        let made = write(&contract(), GRAPH, &[(Section::SelfTest, &section)]);
        let sound = (1..=16).contains(&images) && more_bytes == 0 && more_logits == 0;
        assert_eq!(made.is_ok(), sound, "case {case}: {images} images, {more_bytes} bytes and {more_logits} logits more");
        let mut file = taken_apart(&sample());
        file.push((6, 0, section));
        let bytes = self::file(&file);
        match Bundle::read(&bytes) {
            Ok(bundle) => {
                assert!(sound, "case {case}");
                assert_eq!(bytes, made.unwrap());
                let test = bundle.self_test.unwrap();
                let (images, found): (Vec<&[u8]>, Vec<Vec<i32>>) = test.cases().map(|(i, l)| (i, l.collect())).unzip();
                assert_eq!((images.concat(), found.concat()), (image_bytes, logits.clone()));
                assert!(test.logits().eq(logits));
                read += 1;
            }
            Err(e) => assert!(!sound && matches!(e, BundleError::SelfTest(_)), "case {case}: {e}"),
        }
    }
    assert!(read > 5, "{read} of {cases} were read");
    let mut cut = taken_apart(&sample());
    cut.push((6, 0, vec![0x80]));
    assert_eq!(Bundle::read(&file(&cut)).err(), Some(BundleError::SelfTest(SelfTestFault::Encoding)));
}

#[test]
fn random_contracts_survive_the_round_trip() {
    let (seed, cases) = draws(200);
    for case in 0..cases {
        let mut random = Random::new(seed, case);
        let mut up_to = |most: i32| random.range(0, most);
        let names: Vec<String> =
            (0..1 + up_to(if case % 50 == 0 { 1023 } else { 12 })).map(|i| format!("tag {i} é")).collect();
        let mut given = contract();
        given.tags.clear();
        for name in &names {
            let (a, b) = (up_to(65535) as u16, up_to(65535) as u16);
            let rule = TagRule { threshold: Score(a.max(b)), review_low: Score(a.min(b)) };
            given.tags.push(Tag { name, rule, role: Role::ALL[up_to(2) as usize] }).unwrap();
        }
        given.temperature_q16 = 1 + up_to(i32::MAX - 1) as u32;
        given.task = if up_to(1) == 0 { Task::Multiclass } else { Task::Multilabel };
        let bytes = write(&given, GRAPH, &[]).unwrap();
        assert_eq!(Bundle::read(&bytes).unwrap().contract, given, "case {case}");
    }
}

#[test]
fn format_1_is_read_and_its_tags_have_no_role() {
    let bytes = format_1(&contract(), GRAPH);
    let bundle = Bundle::read(&bytes).unwrap();
    let mut expected = contract();
    expected.tags.iter_mut().for_each(|t| t.role = Role::Other);
    assert_eq!(bundle.contract, expected);
    assert_eq!((bundle.graph, bundle.format), (GRAPH, 1));
    assert_eq!(bundle.sha256, sha256(&bytes[52..]), "the identity that format 1 always had");
    assert_eq!((bundle.sections().count(), bundle.section(Section::Graph)), (0, None));

    let other = format_1(&contract(), b"another");
    assert_eq!(Bundle::read(&other).err(), Some(BundleError::Graph));
    let mut giant = bytes.clone();
    giant[19] = 0xff;
    assert!(matches!(Bundle::read(&giant), Err(BundleError::Oversized { what: SectionId(3), .. })));
}

#[test]
fn every_truncation_is_an_error() {
    for whole in [sample(), format_1(&contract(), GRAPH)] {
        for n in 0..whole.len() {
            assert!(Bundle::read(&whole[..n]).is_err(), "{n} bytes");
        }
    }
}

/// Also in sections that this build skips: what a board runs is what was packed, whole.
#[test]
fn every_flipped_bit_is_an_error() {
    let mut skipped = taken_apart(&sample());
    skipped.push((7, 0, b"layout".to_vec()));
    skipped.push((900, 0, b"of a later tagpin".to_vec()));
    let skipped = file(&skipped);
    assert!(Bundle::read(&skipped).is_ok());
    for mut bytes in [skipped, format_1(&contract(), GRAPH)] {
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Bundle::read(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// Scores of tags that do not exclude one another add up to nothing, so such a model has none.
#[test]
fn categories_are_read_for_tags_that_exclude_one_another_and_for_as_many_as_there_are() {
    let mut four = contract();
    let tag = |name| Tag { name, rule: TagRule::default(), role: Role::Other };
    four.tags = heapless::Vec::from_slice(&["tabby", "dog", "bus", "bolt"].map(tag)).unwrap();
    let section = categories();
    let of = |c: &Contract<'_>| write(c, GRAPH, &[(Section::Categories, &section)]);
    assert_eq!(of(&four), Err(WriteError::Categories(CategoryFault::Multilabel)));
    four.task = Task::Multiclass;
    let bytes = of(&four).unwrap();
    let read = Bundle::read(&bytes).unwrap().categories.unwrap();
    assert_eq!(read.names().collect::<Vec<_>>(), ["animal", "cat", "vehicle"]);
    assert!(!Section::Categories.critical(), "an older build skips it");
    assert_eq!(Bundle::read(&sample()).unwrap().categories, None);
    let mut three = four.clone();
    three.tags.pop();
    assert_eq!(of(&three), Err(WriteError::Categories(CategoryFault::Tags { found: 4, expected: 3 })));
    // A reader says the same of a file that no writer would make.
    let mut parts = taken_apart(&bytes);
    parts.last_mut().unwrap().2.pop();
    assert_eq!(Bundle::read(&file(&parts)).err(), Some(BundleError::Categories(CategoryFault::Encoding)));
}

#[test]
fn what_is_wrong_with_a_table_is_named() {
    let good = taken_apart(&sample());
    assert_eq!(file(&good), sample());
    let edited = |edit: &dyn Fn(&mut Vec<Drawn>)| {
        let mut sections = good.clone();
        edit(&mut sections);
        Bundle::read(&file(&sections)).map(|b| b.format)
    };
    let id = SectionId;
    assert_eq!(edited(&|_| {}), Ok(2));
    // A later tagpin's section is skipped, whatever is in it.
    assert_eq!(edited(&|s| s.push((9, 0, b"?".to_vec()))), Ok(2));
    assert_eq!(edited(&|s| s.push((9, 1, b"?".to_vec()))), Err(BundleError::SectionUnknown(id(9))));
    // A limit on the distance that nobody heeds would pass parts that the bundle's maker wants
    // refused.
    assert_eq!(edited(&|s| s.push((4, 1, distance()))), Ok(2));
    assert_eq!(edited(&|s| s.push((4, 1, b"?".to_vec()))), Err(BundleError::Distance(SpreadFault::Encoding)));
    assert_eq!(edited(&|s| s.push((4, 0, b"?".to_vec()))), Err(BundleError::SectionFlags { id: id(4), flags: 0 }));
    assert_eq!(edited(&|s| s[1].1 = 0), Err(BundleError::SectionFlags { id: id(2), flags: 0 }));
    assert_eq!(edited(&|s| s.push((6, 2, Vec::new()))), Err(BundleError::SectionFlags { id: id(6), flags: 2 }));
    assert_eq!(edited(&|s| s.insert(1, s[1].clone())), Err(BundleError::SectionTwice(id(2))));
    assert_eq!(edited(&|s| s.swap(0, 1)), Err(BundleError::SectionOrder { id: id(1), after: id(2) }));
    for section in [Section::Contract, Section::Rules, Section::Graph] {
        let without = edited(&|s| s.retain(|(id, ..)| *id != section.id()));
        assert_eq!(without, Err(BundleError::SectionMissing(section)));
    }
    assert_eq!(edited(&|s| s.clear()), Err(BundleError::SectionCount { found: 0 }));
    assert_eq!(
        edited(&|s| s.extend((100..162).map(|id| (id, 0, Vec::new())))),
        Err(BundleError::SectionCount { found: 65 })
    );
    assert_eq!(edited(&|s| s.extend((100..161).map(|id| (id, 0, Vec::new())))), Ok(2), "64 are read");
    assert_eq!(edited(&|s| s[0].2.push(0)), Err(BundleError::Encoding(Section::Contract)), "bytes left over");
    assert_eq!(edited(&|s| s[1].2.truncate(5)), Err(BundleError::Encoding(Section::Rules)));
    // One rule fewer than tags: temperature 1, one tag with 0.5, 0.5, other.
    let one = [0x80, 0x80, 0x04, 1, 0x80, 0x80, 0x02, 0x80, 0x80, 0x02, 2].to_vec();
    assert_eq!(edited(&|s| s[1].2 = one.clone()), Err(BundleError::Rules { rules: 1, tags: 2 }));

    let mut bytes = sample();
    bytes.push(0);
    let (found, expected) = (bytes.len() as u64, bytes.len() as u64 - 1);
    assert_eq!(Bundle::read(&bytes).err(), Some(BundleError::Length { found, expected }), "a trailing byte");
    let last = bytes.len() - 2;
    bytes.pop();
    bytes[last] ^= 1;
    assert_eq!(Bundle::read(&bytes).err(), Some(BundleError::SectionDamaged(id(3))));
    bytes[HEADER_LEN] ^= 1;
    assert_eq!(Bundle::read(&bytes).err(), Some(BundleError::Damaged), "the table is believed only after its hash");
    bytes[8] = 3;
    assert_eq!(Bundle::read(&bytes).err(), Some(BundleError::Version { found: 3 }));
    assert_eq!(Bundle::read(b"\x89TAG").err(), Some(BundleError::Length { found: 4, expected: 48 }));
    assert_eq!(Bundle::read(b"").err(), Some(BundleError::Magic));
}

/// A length over its limit is refused by the table alone: no such file need be there.
#[test]
fn a_giant_section_is_named() {
    for (id, limit) in [(1, MAX_CONTRACT), (3, MAX_GRAPH), (7, MAX_SECTION), (77, MAX_SECTION)] {
        let table = [[id, (id < 4) as u32, limit + 1].map(u32::to_le_bytes).concat(), vec![0; 32]].concat();
        let bytes = [MAGIC.as_slice(), &2u32.to_le_bytes(), &1u32.to_le_bytes(), &sha256(&table), &table].concat();
        let found = limit + 1;
        assert_eq!(Bundle::read(&bytes).err(), Some(BundleError::Oversized { what: SectionId(id), found, limit }));
    }
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let refused = |edit: &dyn Fn(&mut Contract<'static>), extra: &[(Section, &[u8])]| {
        let mut contract = contract();
        edit(&mut contract);
        write(&contract, GRAPH, extra).err()
    };
    assert_eq!(refused(&|_| {}, &[]), None);
    assert_eq!(refused(&|c| c.tags.clear(), &[]), Some(WriteError::Contract(ContractFault::NoTags)));
    assert_eq!(refused(&|c| c.tags[1].name = "bolt", &[]), Some(WriteError::Contract(ContractFault::TagName(1))));
    assert_eq!(refused(&|c| c.graph_sha256 = [0; 32], &[]), Some(WriteError::Graph));
    assert_eq!(refused(&|_| {}, &[(Section::Rules, b"")]), Some(WriteError::Twice(Section::Rules)));
    let twice: [(Section, &[u8]); 2] = [(Section::Layout, b""), (Section::Layout, b"")];
    assert_eq!(refused(&|_| {}, &twice), Some(WriteError::Twice(Section::Layout)));
    assert_eq!(refused(&|_| {}, &[(Section::Distance, &distance())]), None);
    let fault = SpreadFault::Encoding;
    assert_eq!(refused(&|_| {}, &[(Section::Distance, b"")]), Some(WriteError::Distance(fault)));
    let long = vec![0; MAX_SECTION as usize + 1];
    assert_eq!(refused(&|_| {}, &[(Section::Layout, &long)]), Some(WriteError::Oversized(Section::Layout)));
}

/// FORMAT.md's rules about tables, read naively. A distance or a self-test of drawn bytes is none.
fn allowed(sections: &[Drawn], good: &[Drawn]) -> bool {
    let rising = sections.windows(2).all(|w| w[0].0 < w[1].0);
    let flags =
        sections.iter().all(|(id, flags, _)| *flags == if (1..=3).contains(id) { 1 } else { 0 } && ![4, 6].contains(id));
    let whole = good.iter().all(|g| sections.contains(g));
    // Nor has a bundle of a multilabel task categories, whatever they are.
    let without = !sections.iter().any(|(id, ..)| *id == 8);
    rising && flags && whole && without && sections.len() <= 64
}

#[test]
fn random_tables_are_read_exactly_if_the_rules_allow_them() {
    let good = taken_apart(&sample());
    let (seed, cases) = draws(5_000);
    let mut read = 0;
    for case in 0..cases {
        let mut random = Random::new(seed, case);
        let mut up_to = |most: usize| random.range(0, most as i32) as usize;
        let mut sections = good.clone();
        for _ in 0..up_to(3) {
            sections.push((5 + up_to(8) as u32, 0, vec![up_to(255) as u8; up_to(40)]));
        }
        sections.sort();
        for _ in 0..up_to(2) {
            let at = up_to(sections.len() - 1);
            let to = up_to(sections.len() - 1);
            match up_to(6) {
                0 => sections.swap(at, to),
                1 if sections.len() > 1 => drop(sections.remove(at)),
                2 => sections.push(sections[at].clone()),
                3 => sections[at].0 = up_to(9) as u32,
                4 => sections[at].1 = up_to(3) as u32,
                // A rule is one byte longer, a graph another graph: what is inside is checked too.
                5 if sections[at].0 < 3 => sections[at].2.push(0),
                _ => sections.push((1000 + up_to(9) as u32, 0, Vec::new())),
            }
        }
        let bytes = file(&sections);
        let bundle = Bundle::read(&bytes);
        assert_eq!(bundle.is_ok(), allowed(&sections, &good), "case {case}: {:?}", bundle.err());
        let Ok(bundle) = bundle else { continue };
        read += 1;
        assert_eq!(bundle.contract, contract());
        for (id, _, content) in &sections {
            let Some(section) = Section::of(*id) else { continue };
            assert_eq!(bundle.section(section), Some(content.as_slice()), "case {case}: section {id}");
        }
    }
    assert!(cases < 100 || read > cases / 10 && read < cases * 9 / 10, "both answers were drawn: {read} of {cases}");
}

/// Random contents under right hashes reach the decoders; they must refuse them without panicking.
#[test]
fn a_rehashed_mutation_never_panics() {
    let good = taken_apart(&sample());
    let old = format_1(&contract(), GRAPH);
    let (seed, cases) = draws(20_000);
    for case in 0..cases {
        let mut random = Random::new(seed, case);
        let mut up_to = |most: usize| random.range(0, most as i32) as usize;
        let mut sections = good.clone();
        let mut bytes = old.clone();
        for _ in 0..3 {
            // Two in three near an end: in between lie the tables, in which every byte means the
            // same.
            let mut place = |len: usize| match up_to(2) {
                0 => up_to(len - 1),
                1 => up_to(len.min(40) - 1),
                _ => len - 1 - up_to(len.min(80) - 1),
            };
            let (a, b) = (place(sections[0].2.len()), place(sections[1].2.len()));
            let at = 52 + place(bytes.len() - 52);
            sections[0].2[a] = up_to(255) as u8;
            sections[1].2[b] = up_to(255) as u8;
            bytes[at] = up_to(255) as u8;
        }
        let _ = Bundle::read(&file(&sections));
        let hash = sha256(&bytes[52..]);
        bytes[20..52].copy_from_slice(&hash);
        let _ = Bundle::read(&bytes);
    }
}

/// The examples in FORMAT.md, line by line: offset, bytes (`00 x 3072` for as many), `;` and a
/// remark.
#[test]
fn the_bytes_shown_in_format_md_are_what_is_written() {
    let text = include_str!("FORMAT.md");
    let lines = text.lines().filter_map(|l| l.strip_prefix("    ")?.split_once("  ")).filter(|(at, _)| at.len() == 5);
    let mut examples: Vec<Vec<u8>> = Vec::new();
    for (at, rest) in lines {
        if at == "00000" {
            examples.push(Vec::new());
        }
        let bytes = examples.last_mut().expect("an example begins at 0");
        assert_eq!(usize::from_str_radix(at, 16), Ok(bytes.len()), "the offset of: {rest}");
        let shown = rest.split(';').next().unwrap_or(rest);
        let byte = |hex: &str| u8::from_str_radix(hex, 16).unwrap();
        match shown.split_once(" x ") {
            Some((hex, times)) => bytes.extend(vec![byte(hex.trim()); times.trim().parse().unwrap()]),
            None => bytes.extend(shown.split_whitespace().map(byte)),
        }
    }
    assert_eq!(examples, [sample(), distance(), categories()]);
}
