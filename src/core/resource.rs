//! Stand-in for the state machine.
#![allow(missing_docs, unused_variables)]
use super::types::*;
use crate::conf::settings::{NetSettings, ResourceSettings};
use crate::wire::{Packet, Socket};

#[derive(Default)]
pub struct Resource;
#[rustfmt::skip]
impl Resource {
    pub fn new(name: &str, settings: ResourceSettings, random: Box<dyn FnMut() -> u64 + Send>) -> Resource { Resource }
    pub fn add_volume(&mut self, number: u16, minor: u32, settings: crate::conf::settings::DiskSettings) -> VolumeIndex { 0 }
    pub fn remove_volume(&mut self, v: VolumeIndex) -> bool { true }
    pub fn write(&mut self, now: Millis, v: VolumeIndex, token: Token, sector: u64, payload: Payload, fua: bool) {}
    pub fn read(&mut self, now: Millis, v: VolumeIndex, token: Token, sector: u64, bytes: u32) {}
    pub fn flush(&mut self, now: Millis, v: VolumeIndex, token: Token) {}
    pub fn discard(&mut self, now: Millis, v: VolumeIndex, token: Token, sector: u64, bytes: u32, zeroes: bool) {}
    pub fn io_done(&mut self, now: Millis, v: VolumeIndex, io: Io, result: IoResult) {}
    pub fn link_up(&mut self, now: Millis, link: Link) {}
    pub fn link_refused(&mut self, now: Millis, lines: Vec<(Level, String)>) {}
    pub fn link_lost(&mut self, now: Millis, failure: LinkFailure) {}
    pub fn link_closed(&mut self, now: Millis) {}
    pub fn packet(&mut self, now: Millis, socket: Socket, volume: u16, packet: Packet, payload: Option<Payload>) {}
    pub fn receiver_ready(&self) -> bool { true }
    pub fn sent(&mut self, now: Millis, notify: u64) {}
    pub fn send_expired(&mut self, now: Millis, socket: Socket) {}
    pub fn next_bitmap_packet(&mut self, now: Millis, v: VolumeIndex) -> Option<(Packet, Payload)> { None }
    pub fn helper_done(&mut self, now: Millis, id: HelperId, exit_status: i32) {}
    pub fn command(&mut self, now: Millis, id: AdminId, command: Command) {}
    pub fn next_timeout(&self) -> Option<Millis> { None }
    pub fn timeout(&mut self, now: Millis) {}
    pub fn take_outputs(&mut self, into: &mut Vec<Output>) {}
    pub fn name(&self) -> &str { "" }
    pub fn net_settings(&self) -> Option<&NetSettings> { None }
    pub fn settings(&self) -> &ResourceSettings { todo!() }
}
pub struct Vol; pub struct D { pub can_discard: bool }
impl Vol { pub fn size_sectors(&self) -> u64 { 0 } pub fn disk(&self) -> Option<&D> { None } }
impl Resource { pub fn volume(&self, v: VolumeIndex) -> &Vol { &Vol } }
