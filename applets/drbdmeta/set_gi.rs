//! `set-gi`: writes UUIDs and flags by hand (spec/metadata.md 7.1).

use super::call::{Call, Failure};
use super::disk::Disk;
use super::ui::{confirmed, say};
use super::{find, get_gi, EXIT_ERROR};
use drbdbox::meta::layout::parse_c_number;
use drbdbox::meta::{MetaFlags, SuperBlock};

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let text =
        call.argument.as_deref().ok_or_else(|| Failure::new(EXIT_ERROR, "Required Argument missing"))?;
    let disk = Disk::open(call)?;
    let found = find::in_place(call, &disk)?;
    let mut changed = found.super_block.clone();
    apply(&mut changed, text)?;
    say!("previously {}", get_gi::line(&found.super_block));
    say!("set GI to  {}", get_gi::line(&changed));
    if !confirmed(call, "Write new GI to disk?") {
        say!("Operation canceled.");
        // Not a failure to 8.3.16.
        return Ok(0);
    }
    disk.write_super_block(&found.layout, &changed).map_err(|failure| {
        failure.print();
        Failure::new(failure.code, "update failed")
    })?;
    Ok(0)
}

/// Up to eleven fields in get-gi's order; an empty or missing one keeps its value, more are ignored.
fn apply(super_block: &mut SuperBlock, text: &str) -> Result<(), Failure> {
    let bad = |text: String| Failure::new(EXIT_ERROR, text);
    let mut fields = text.split(':');
    for uuid in &mut super_block.uuids {
        let Some(field) = fields.next() else {
            return Ok(());
        };
        if field.is_empty() {
            continue;
        }
        let digits = field.strip_prefix("0x").or_else(|| field.strip_prefix("0X")).unwrap_or(field);
        let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        *uuid = match u64::from_str_radix(digits, 16) {
            Ok(value) if is_number => value,
            _ => {
                // 8.3.16 prints what follows the wrong field.
                let rest: Vec<&str> = fields.collect();
                let rest = if rest.is_empty() { "(null)".to_string() } else { rest.join(":") };
                return Err(bad(format!("'{rest}' is not a number.")));
            }
        };
    }
    for flag in MetaFlags::GENERATION_FLAGS {
        let Some(field) = fields.next() else {
            return Ok(());
        };
        if field.is_empty() {
            continue;
        }
        match parse_c_number(field) {
            Some(value @ 0..=1) => super_block.flags.set(flag, value == 1),
            Some(value) => return Err(bad(format!("'{value}' is not 0 or 1."))),
            None => return Err(bad(format!("'{field}' is not a number."))),
        }
    }
    Ok(())
}
