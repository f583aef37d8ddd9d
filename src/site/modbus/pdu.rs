//! Requests and answers of Modbus, function codes 1 to 6, 15 and 16, without their transport.
//!
//! After "MODBUS Application Protocol Specification V1.1b3". rmodbus 0.13 is not used: its writes
//! index by a byte count of the request that it does not check.

/// Why a request is refused; the number is the protocol's exception code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exception {
    /// The function is not offered, or not to this peer.
    Function = 1,
    /// There are no such registers.
    Address = 2,
    /// A count or value that is not allowed, or a request of another length than it states.
    Value = 3,
    /// It could not be done: the trigger came too late, or too many wait.
    Failure = 4,
}

/// What a request reads and writes.
pub(super) trait Registers {
    /// `count` bits from `at`; `coils`: those that can be written. `None` if they are not all
    /// there.
    fn bits(&self, coils: bool, at: u16, count: u16) -> Option<Vec<bool>>;
    /// `count` registers from `at`. `None` if they are not all there.
    fn words(&self, at: u16, count: u16) -> Option<Vec<u16>>;
    /// Writes coils from `at` on.
    fn write(&mut self, at: u16, bits: &[bool]) -> Result<(), Exception>;
    /// Writes registers from `at` on.
    fn write_words(&mut self, at: u16, words: &[u16]) -> Result<(), Exception>;
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// The answer to a request. `request`: function code and what belongs to it, at least one byte.
pub(super) fn answer(request: &[u8], registers: &mut dyn Registers) -> Vec<u8> {
    let function = request[0];
    match carry_out(function, &request[1..], registers) {
        Ok(data) => [&[function], data.as_slice()].concat(),
        Err(exception) => vec![function | 0x80, exception as u8],
    }
}

fn carry_out(function: u8, data: &[u8], registers: &mut dyn Registers) -> Result<Vec<u8>, Exception> {
    if !matches!(function, 1..=6 | 15 | 16) {
        return Err(Exception::Function);
    }
    let (at, second) = word(data, 0).zip(word(data, 2)).ok_or(Exception::Value)?;
    let exactly = |length: usize| if data.len() == length { Ok(()) } else { Err(Exception::Value) };
    let within = |most: u16| if (1..=most).contains(&second) { Ok(second) } else { Err(Exception::Value) };
    match function {
        1 | 2 => {
            exactly(4)?;
            let bits = registers.bits(function == 1, at, within(2000)?).ok_or(Exception::Address)?;
            let packed = bits.chunks(8).map(|eight| eight.iter().rev().fold(0, |byte, bit| byte << 1 | *bit as u8));
            let packed: Vec<u8> = packed.collect();
            Ok([&[packed.len() as u8], packed.as_slice()].concat())
        }
        3 | 4 => {
            exactly(4)?;
            let words = registers.words(at, within(125)?).ok_or(Exception::Address)?;
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
            Ok([&[bytes.len() as u8], bytes.as_slice()].concat())
        }
        5 => {
            exactly(4)?;
            let bit = match second {
                0xff00 => true,
                0 => false,
                _ => return Err(Exception::Value),
            };
            registers.write(at, &[bit]).map(|()| data.to_vec())
        }
        15 => {
            let count = within(1968)?;
            let bytes = count.div_ceil(8) as usize;
            exactly(5 + bytes)?;
            if data[4] as usize != bytes {
                return Err(Exception::Value);
            }
            let bits: Vec<bool> = (0..count as usize).map(|i| data[5 + i / 8] >> (i % 8) & 1 == 1).collect();
            registers.write(at, &bits).map(|()| data[..4].to_vec())
        }
        6 => {
            exactly(4)?;
            registers.write_words(at, &[second]).map(|()| data.to_vec())
        }
        _ => {
            let bytes = 2 * within(123)? as usize;
            exactly(5 + bytes)?;
            if data[4] as usize != bytes {
                return Err(Exception::Value);
            }
            let words: Vec<u16> = data[5..].chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            registers.write_words(at, &words).map(|()| data[..4].to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten registers that hold their own number, ten bits of which each third is set, four coils.
    struct Ten([bool; 4]);

    impl Registers for Ten {
        fn bits(&self, coils: bool, at: u16, count: u16) -> Option<Vec<bool>> {
            let bits: Vec<bool> = if coils { self.0.to_vec() } else { (0..10).map(|i| i % 3 == 0).collect() };
            bits.get(at as usize..at as usize + count as usize).map(<[bool]>::to_vec)
        }

        fn words(&self, at: u16, count: u16) -> Option<Vec<u16>> {
            (at as u32 + count as u32 <= 10).then(|| (at..at + count).collect())
        }

        fn write(&mut self, at: u16, bits: &[bool]) -> Result<(), Exception> {
            let coils = self.0.get_mut(at as usize..at as usize + bits.len()).ok_or(Exception::Address)?;
            coils.copy_from_slice(bits);
            Ok(())
        }

        /// The one at 7 takes what is below 5.
        fn write_words(&mut self, at: u16, words: &[u16]) -> Result<(), Exception> {
            match (at, words) {
                (7, [word]) if *word < 5 => Ok(()),
                (7, [_]) => Err(Exception::Value),
                _ => Err(Exception::Address),
            }
        }
    }

    #[test]
    fn requests_are_answered_byte_by_byte_as_the_specification_says() {
        let mut ten = Ten([false; 4]);
        let cases: [(&[u8], &[u8]); 29] = [
            (&[3, 0, 2, 0, 3], &[3, 6, 0, 2, 0, 3, 0, 4]),
            (&[4, 0, 9, 0, 1], &[4, 2, 0, 9]),
            (&[4, 0, 9, 0, 2], &[0x84, 2]),
            (&[4, 0xff, 0xff, 0, 125], &[0x84, 2]),
            (&[4, 0, 0, 0, 0], &[0x84, 3]),
            (&[3, 0, 0, 0, 126], &[0x83, 3]),
            (&[3, 0, 0, 0], &[0x83, 3]),
            (&[3, 0, 0, 0, 1, 0], &[0x83, 3]),
            (&[2, 0, 0, 0, 10], &[2, 2, 0b0100_1001, 0b10]),
            (&[2, 0, 3, 0, 1], &[2, 1, 1]),
            (&[1, 0, 0, 7, 0xd1], &[0x81, 3]),
            (&[5, 0, 1, 0xff, 0], &[5, 0, 1, 0xff, 0]),
            (&[1, 0, 0, 0, 4], &[1, 1, 0b10]),
            (&[5, 0, 1, 0xff, 1], &[0x85, 3]),
            (&[5, 0, 4, 0, 0], &[0x85, 2]),
            (&[15, 0, 0, 0, 4, 1, 0b1001], &[15, 0, 0, 0, 4]),
            (&[1, 0, 0, 0, 4], &[1, 1, 0b1001]),
            (&[15, 0, 0, 0, 4, 2, 0b1001], &[0x8f, 3]),
            (&[15, 0, 0, 0, 4, 1], &[0x8f, 3]),
            (&[6, 0, 0, 0, 1], &[0x86, 2]),
            (&[6, 0, 7, 0, 4], &[6, 0, 7, 0, 4]),
            (&[6, 0, 7, 0, 5], &[0x86, 3]),
            (&[6, 0, 7, 0], &[0x86, 3]),
            (&[16, 0, 0, 0, 1, 2, 0, 1], &[0x90, 2]),
            (&[16, 0, 7, 0, 1, 2, 0, 4], &[16, 0, 7, 0, 1]),
            (&[16, 0, 7, 0, 2, 4, 0, 4, 0, 4], &[0x90, 2]),
            (&[16, 0, 7, 0, 1, 4, 0, 4], &[0x90, 3]),
            (&[16, 0, 7, 0, 0, 0], &[0x90, 3]),
            (&[43, 14, 1, 0], &[0xab, 1]),
        ];
        for (request, expected) in cases {
            assert_eq!(answer(request, &mut ten), expected, "{request:?}");
        }
    }

    /// rmodbus panicked at a write whose byte count is larger than the request.
    #[test]
    fn no_bytes_make_an_answer_panic_and_each_is_short_enough() {
        let (seed, cases) = crate::random::drawn_cases(100_000);
        let mut good = 0;
        for case in 0..cases {
            let mut random = crate::random::Random::new(seed, case);
            let mut request: Vec<u8> = (0..random.range(1, 12)).map(|_| random.next() as u8).collect();
            // Half of them are near good ones.
            if case % 2 == 0 {
                request.resize(5, 0);
                (request[0], request[1], request[2], request[3]) =
                    (random.range(1, 16) as u8, 0, random.range(0, 9) as u8, 0);
                request[4] = random.range(0, 4) as u8;
            }
            let answer = answer(&request, &mut Ten([false; 4]));
            assert!((2..=253).contains(&answer.len()) && answer[0] & 0x7f == request[0] & 0x7f, "{request:?}: {answer:?}");
            good += (answer[0] & 0x80 == 0) as u64;
        }
        assert!(good > cases / 50, "{good} of {cases}");
    }
}
