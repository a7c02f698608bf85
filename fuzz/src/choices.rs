//! Fuzzed bytes as a sequence of choices. Where they run out every choice is zero.

/// A reader of fuzzed bytes.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(data: &'a [u8]) -> Choices<'a> {
        Choices(data)
    }

    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub fn bool(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) << 32 | u64::from(self.u32())
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// One of `things`.
    pub fn of<'t, T>(&mut self, things: &'t [T]) -> &'t T {
        &things[usize::from(self.byte()) % things.len()]
    }

    /// A number below `end`, or zero.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.u16()) % end.max(1)
    }

    /// So many bytes as the next two say, as far as there are any.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.u16()).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    /// Like [`Choices::bytes`], at most 255.
    pub fn few_bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    pub fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.bool() { Some(make(self)) } else { None }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Changes these bytes somewhere: overwrites, flips, cuts, takes out, puts in, doubles.
    pub fn edit(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match self.byte() % 7 {
            0 if !bytes.is_empty() => bytes[at] = self.byte(),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << (self.byte() & 7),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + usize::from(self.byte())).min(bytes.len()))),
            4 => drop(bytes.splice(at..at, self.few_bytes().iter().copied())),
            5 => {
                let new = self.few_bytes();
                let end = (at + new.len()).min(bytes.len());
                drop(bytes.splice(at..end, new.iter().copied()));
            }
            _ => {
                let end = (at + usize::from(self.byte())).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                drop(bytes.splice(end..end, copy));
            }
        }
    }
}
