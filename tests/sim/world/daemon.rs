//! What a daemon wants: packets, the disk, helpers, answers to operators.

use super::{Helper, World};
use crate::disk::{tag_of, Work, SECTOR};
use crate::node::{disk_work, Outgoing};
use drbdbox::core::types::*;
use drbdbox::wire::Socket;

impl World {
    pub(super) fn outputs(&mut self, n: usize) {
        let mut outputs = std::mem::take(&mut self.outputs);
        while let Some(daemon) = &mut self.nodes[n].daemon {
            daemon.core.take_outputs(&mut outputs);
            if outputs.is_empty() {
                break;
            }
            for output in outputs.drain(..) {
                self.output(n, output);
            }
        }
        self.outputs = outputs;
    }

    pub(super) fn output(&mut self, n: usize, output: Output) {
        match output {
            Output::Log { level, text, .. } => self.logged(n, level, &text),
            Output::State { old, new, .. } => self.state_changed(n, old, new),
            Output::Resize { sectors, .. } => self.size_shown(n, sectors),
            // Its resources have volumes.
            Output::BareConnection { .. } => {}
            Output::Complete { token, result } => self.completed(n, token, result),
            output @ (Output::DiskRead { .. }
            | Output::DiskWrite { .. }
            | Output::DiskDiscard { .. }
            | Output::DiskFlush { .. }
            | Output::MetaWrite { .. }) => {
                let Ok((io, work)) = disk_work(output) else { return };
                self.disk_submitted(n, io, work);
            }
            Output::AskBackingSize { volume } => {
                let node = &mut self.nodes[n];
                let data_bytes = node.disk.data.sectors() * 512;
                let size = BackingSize { data_bytes, meta_bytes: node.meta_bytes() };
                let Some(daemon) = &mut node.daemon else { return };
                daemon.core.backing_size(self.now, volume, Ok(size));
            }
            output => {
                let Some(daemon) = &mut self.nodes[n].daemon else { return };
                match output {
                    Output::Send { socket, volume, packet, payload, notify } => {
                        self.say(|| format!("{n}: -> {socket:?} {packet:?}"));
                        let Some(daemon) = &mut self.nodes[n].daemon else { return };
                        let open = self.connection.as_ref().is_some_and(|c| c.open[n] && c.told[n]);
                        assert!(open, "node {n} sends {packet:?} without a link");
                        let packet = Outgoing::Packet { volume, packet, payload, notify };
                        daemon.outbox[socket as usize].push_back(packet);
                    }
                    Output::SendBitmap { volume } => {
                        daemon.outbox[Socket::Data as usize].push_back(Outgoing::Bitmap { volume });
                    }
                    Output::Connect => {
                        assert!(!daemon.connecting, "node {n} connects twice");
                        daemon.connecting = true;
                    }
                    Output::CloseLink { drain_meta } => {
                        assert!(!daemon.closing, "node {n} closes twice");
                        self.close_link(n, drain_meta);
                    }
                    Output::ReleaseDisk { .. } => {
                        daemon.disk_open = false;
                        assert!(self.nodes[n].disk.jobs.is_empty(), "node {n} released a disk with I/O");
                    }
                    Output::Helper { id, name, .. } => daemon.helpers.push(Helper::new(id, name, self.now)),
                    Output::Reply { id, code, .. } => self.replied(n, id, code),
                    _ => {}
                }
            }
        }
    }

    pub(super) fn close_link(&mut self, n: usize, drain_meta: bool) {
        let Some(daemon) = &mut self.nodes[n].daemon else { return };
        daemon.closing = true;
        if let Some(connection) = self.connection.as_mut().filter(|c| c.open[n]) {
            if drain_meta && connection.told[n] {
                while let Some(Outgoing::Packet { volume, packet, payload, .. }) =
                    daemon.outbox[Socket::Meta as usize].pop_front()
                {
                    connection.send(n, Socket::Meta, volume, &packet, payload);
                }
                connection.close(n, false, &mut self.random);
            } else {
                let abruptly = self.random.chance(40);
                connection.close(n, abruptly, &mut self.random);
            }
        }
        daemon.outbox = Default::default();
        daemon.notifies.clear();
    }

    pub(super) fn disk_submitted(&mut self, n: usize, io: Io, work: Work) {
        let late = self.p.slow_ms > 0 && self.random.chance(5);
        let due = self.now + if late { self.random.below(self.p.slow_ms) } else { 0 };
        self.say(|| match &work {
            Work::Read { sector, bytes } => format!("{n}: read {sector}+{} {io:?}", bytes / 512),
            Work::Write { sector, payload, .. } => {
                format!("{n}: write {sector}+{} {io:?} tag {:#x}", payload.len() / SECTOR, tag_of(payload, 0))
            }
            Work::Discard { sector, bytes } => format!("{n}: discard {sector}+{} {io:?}", bytes / 512),
            Work::Flush => format!("{n}: flush {io:?}"),
            Work::Meta { pieces, .. } => {
                let pieces: Vec<_> = pieces.iter().map(|(at, bytes)| (at / 512, bytes.len() / 512)).collect();
                format!("{n}: meta write {pieces:?} {io:?}")
            }
        });
        assert!(self.nodes[n].daemon.as_ref().is_some_and(|d| d.disk_open), "node {n}: I/O without a disk");
        self.check_disk_work(n, io, &work);
        self.nodes[n].disk.submit(io, work, due);
    }
}
