//! Reading and writing the big-endian fields of a sub-header.

use super::Malformed;

/// Takes fields from the front of a sub-header.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The next `N` bytes as they are.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        if self.rest.len() < N {
            return Err(Malformed::Truncated);
        }
        let (head, rest) = self.rest.split_at(N);
        self.rest = rest;
        <[u8; N]>::try_from(head).map_err(|_| Malformed::Truncated)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A field that its creator wrote in its own byte order and wants back bit for bit.
    pub(super) fn raw32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_ne_bytes(self.array()?))
    }

    /// As [`Reader::raw32`], 8 bytes.
    pub(super) fn raw64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_ne_bytes(self.array()?))
    }

    /// A first sector, bounded by [`super::SECTORS_MAX`].
    pub(super) fn sector(&mut self) -> Result<u64, Malformed> {
        let sector = self.u64()?;
        if sector >= super::SECTORS_MAX {
            return Err(Malformed::SectorOutOfRange { sector });
        }
        Ok(sector)
    }

    /// A NUL-terminated name that fills at most `len` bytes or all that is left. Without NUL in [`NAME_MAX`]
    /// bytes it ends before the last one; bytes that are no printable ASCII become `?`, which no name has: names
    /// get into the log.
    pub(super) fn name(&mut self, len: usize) -> String {
        let (field, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        let end = field.iter().position(|b| *b == 0).unwrap_or(field.len().min(NAME_MAX - 1));
        field[..end]
            .iter()
            .map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' })
            .collect()
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

/// Appends fields to a packet under construction.
pub(super) trait Put {
    fn u8(&mut self, value: u8);
    fn u16(&mut self, value: u16);
    fn u32(&mut self, value: u32);
    fn u64(&mut self, value: u64);
    fn raw32(&mut self, value: u32);
    fn raw64(&mut self, value: u64);
    /// `name`, cut to `len` - 1 bytes, and NULs up to `len` bytes.
    fn name_padded(&mut self, name: &str, len: usize);
    /// `name`, cut to [`NAME_MAX`] - 1 bytes, and one NUL.
    fn name_terminated(&mut self, name: &str);
}

/// Bytes of the longest algorithm name with its NUL. spec/wire.md 0.
pub(super) const NAME_MAX: usize = 64;

impl Put for Vec<u8> {
    fn u8(&mut self, value: u8) {
        self.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn raw32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_ne_bytes());
    }

    fn raw64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_ne_bytes());
    }

    fn name_padded(&mut self, name: &str, len: usize) {
        let bytes = &name.as_bytes()[..name.len().min(len - 1)];
        self.extend_from_slice(bytes);
        self.resize(self.len() + len - bytes.len(), 0);
    }

    fn name_terminated(&mut self, name: &str) {
        let bytes = &name.as_bytes()[..name.len().min(NAME_MAX - 1)];
        self.extend_from_slice(bytes);
        self.push(0);
    }
}
