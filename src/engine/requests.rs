//! Requests of applications that core has and has not completed: who is to be told.

use crate::core::resource::Resource;
use crate::core::types::{IoError, Millis, Payload, Token, VolumeIndex};
use crate::export::request::{Answer, Completion, Operation, Request};
use crate::sys::buffer::Buffer;
use crate::wire::SECTOR_BYTES;
use nix::errno::Errno;
use std::sync::Arc;

/// Completions by token. A token is a place in the table, so that nothing is allocated once the table is
/// as large as the queues of the doors.
#[derive(Debug, Default)]
pub struct Requests {
    places: Vec<Option<Completion>>,
    free: Vec<usize>,
}

impl Requests {
    /// Hands a request to core.
    pub fn submit(&mut self, core: &mut Resource, now: Millis, volume: VolumeIndex, request: Request) {
        let Request { operation, offset, len, payload, fua, done, .. } = request;
        let sector = offset / u64::from(SECTOR_BYTES);
        let token = self.insert(done);
        match (operation, payload) {
            (Operation::Read, _) => core.read(now, volume, token, sector, len),
            (Operation::Write, Some(payload)) => {
                let payload = Payload::whole(payload);
                core.write(now, volume, token, sector, payload, fua);
            }
            (Operation::Write, None) => {
                // A defect of the door; its request must not be lost without an answer.
                if let Some((completion, answer)) = self.complete(token, Err(IoError)) {
                    completion.complete(answer);
                }
            }
            (Operation::Flush, _) => core.flush(now, volume, token),
            (Operation::Discard, _) => core.discard(now, volume, token, sector, len, false),
            (Operation::WriteZeroes { .. }, _) => {
                core.discard(now, volume, token, sector, len, true);
            }
        }
    }

    fn insert(&mut self, completion: Completion) -> Token {
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(completion);
                place
            }
            None => {
                self.places.push(Some(completion));
                self.places.len() - 1
            }
        };
        place as Token
    }

    /// Takes a request out of the table, with the answer for it.
    pub fn complete(
        &mut self,
        token: Token,
        result: Result<Option<Payload>, IoError>,
    ) -> Option<(Completion, Answer)> {
        let place = usize::try_from(token).ok()?;
        let completion = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        let answer = match result {
            Ok(payload) => Ok(payload.map(to_buffer)),
            Err(IoError) => Err(Errno::EIO),
        };
        Some((completion, answer))
    }
}

/// The bytes of a payload at the start of a buffer.
fn to_buffer(payload: Payload) -> Arc<Buffer> {
    match payload.clone().into_buffer() {
        (buffer, 0) => buffer,
        _ => Arc::new(Buffer::from_bytes(&payload)),
    }
}
