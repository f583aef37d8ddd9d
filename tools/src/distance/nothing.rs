//! Images of nothing: what a camera gives with its cap on, by its test patterns, or with a broken
//! cable.

use tagpin::random::Random;

/// Blank, noise and test-pattern frames of this side, by kind.
pub fn nothing(side: usize) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let draw = |at: &dyn Fn(usize, usize) -> [u8; 3]| -> Vec<u8> {
        (0..side * side).flat_map(|i| at(i / side, i % side)).collect()
    };
    let shades = [[0; 3], [64; 3], [128; 3], [192; 3], [255; 3], [255, 0, 0], [0, 255, 0], [0, 0, 255]];
    let blank = shades.iter().map(|shade| draw(&|_, _| *shade)).collect();
    let noise = |seed: u64, grain: usize| {
        let mut r = Random::new(seed, 0xbad);
        let cells: Vec<u8> = (0..3 * side * side).map(|_| r.range(0, 255) as u8).collect();
        draw(&|y, x| std::array::from_fn(|c| cells[3 * (y / grain * side + x / grain) + c]))
    };
    let bars = [[255; 3], [255, 255, 0], [0, 255, 255], [0, 255, 0], [255, 0, 255], [255, 0, 0], [0, 0, 255], [0; 3]];
    let ramp = |at: usize| [(at * 255 / (side - 1).max(1)) as u8; 3];
    let patterns = vec![
        draw(&|_, x| bars[x * 8 / side]),
        draw(&|y, _| bars[y * 8 / side]),
        draw(&|_, x| ramp(x)),
        draw(&|y, _| ramp(y)),
        draw(&|y, x| [if (y * 12 / side + x * 12 / side).is_multiple_of(2) { 255 } else { 0 }; 3]),
        draw(&|y, x| [if (y + x) % 8 < 4 { 255 } else { 0 }; 3]),
    ];
    let noises = (0..10).map(|seed| noise(seed, if seed < 5 { 1 } else { 4 })).collect();
    vec![("blank", blank), ("noise", noises), ("test pattern", patterns)]
}
