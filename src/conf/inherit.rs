//! Inheritance: common to resource, resource to volumes. spec/config.md 9.

use super::model::{Config, Resource, Setting, Settings, Volume};
use super::options::Section;
use super::Dialect;

/// Puts options that are missing in `into` in front of it, one after the other, so that they end up
/// in reverse order. "Missing": no option of that name in the section.
fn inherit(into: &mut Settings, from: &[Setting], which: impl Fn(&Setting) -> bool) {
    for setting in from.iter().filter(|s| which(s)) {
        let known = into.iter().any(|s| s.section == setting.section && s.row.name == setting.row.name);
        if !known {
            into.insert(0, setting.clone());
        }
    }
}

/// Expands everything that commands need: not for a plain dump.
pub fn expand(config: &mut Config) {
    let dialect = config.dialect;
    for resource in &mut config.resources {
        if let Some(common) = &config.common {
            from_common(resource, common);
        }
        let of_resource = resource.settings.clone();
        let outer_volumes = resource.volumes.clone();
        for host in &mut resource.hosts {
            for volume in &mut host.volumes {
                expand_volume(volume, &of_resource, &outer_volumes, dialect);
            }
            let of_proxy = |s: &Setting| s.section == Section::Proxy;
            if let (Some(proxy), Dialect::V84) = (&mut host.proxy, dialect) {
                inherit(&mut proxy.options, &of_resource, of_proxy);
                if proxy.plugins.is_empty() {
                    proxy.plugins = resource.plugins.iter().rev().cloned().collect();
                }
            }
        }
    }
}

fn from_common(resource: &mut Resource, common: &Resource) {
    inherit(&mut resource.settings, &common.settings, |_| true);
    if resource.become_primary_on.is_empty() {
        resource.become_primary_on.clone_from(&common.become_primary_on);
    }
    if resource.plugins.is_empty() {
        resource.plugins = common.plugins.iter().rev().cloned().collect();
    }
}

fn expand_volume(volume: &mut Volume, of_resource: &[Setting], outer_volumes: &[Volume], dialect: Dialect) {
    if volume.device.is_none() {
        volume.device = volume.minor.map(|minor| format!("/dev/drbd{minor}"));
    }
    let outer = outer_volumes.iter().find(|v| v.number == volume.number);
    let is_disk = |s: &Setting| s.section == Section::Disk;
    match dialect {
        Dialect::V84 => {
            inherit(&mut volume.options, of_resource, is_disk);
            if let Some(outer) = outer {
                inherit(&mut volume.options, &outer.options, is_disk);
            }
        }
        // 8.3 has disk options of the resource only; a volume's own, written in 8.4 words, come
        // before them.
        Dialect::V83 => {
            let own = outer.map_or(0, |v| v.options.len()) + volume.options.len();
            if own > 0 {
                if let Some(outer) = outer {
                    inherit(&mut volume.options, &outer.options, is_disk);
                }
                inherit(&mut volume.options, of_resource, is_disk);
            }
        }
    }
}

/// The options that configure the disk of a volume, after [`expand`].
pub fn disk_settings<'a>(resource: &'a Resource, volume: &'a Volume) -> &'a [Setting] {
    if volume.options.is_empty() {
        &resource.settings
    } else {
        &volume.options
    }
}
