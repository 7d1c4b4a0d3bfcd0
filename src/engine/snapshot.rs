//! The picture of a resource for status and events.
use super::runner::{Runner, State};
use crate::status;

/// The picture of a resource.
pub fn resource(_runner: &Runner, _state: &State) -> status::Resource {
    todo!()
}
