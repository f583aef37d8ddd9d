//! Bytes as an ONNX model: parsed, validated, lowered, and run if it is small.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tagpin::engine::Engine;

fuzz_target!(|data: &[u8]| {
    let Ok(mut engine) = Engine::load(data) else { return };
    if engine.macs() < 1 << 22 && engine.arena_bytes() < 1 << 20 {
        let input = vec![7; engine.spec().input.iter().product()];
        let mut logits = vec![0; engine.spec().logits];
        // An island's numbers may leave what f32 holds.
        let ran = engine.infer(&input, &mut logits);
        assert!(ran.is_ok() || engine.spec().islands > 0, "lengths are the model's own: {ran:?}");
    }
});
