//! Usage and help texts of both dialects. spec/drbdsetup.md 2.2 and 6.1.

use super::table::{Command, Object, OwnKind, Spec, Target, TABLE};
use drbdbox::conf::options::Kind;
use drbdbox::conf::Dialect;
use drbdbox::status::wrap::Wrapper;
use std::fmt::Write;

/// The general usage; `extra` follows on a line of its own.
pub fn general(form: Dialect, extra: Option<&str>) -> String {
    let mut out = match form {
        Dialect::V83 => general_83(),
        Dialect::V84 => general_84(),
    };
    if let Some(extra) = extra {
        out += &format!("\n{extra}\n");
    }
    out
}

fn listed(form: Dialect) -> impl Iterator<Item = &'static Command> {
    TABLE.iter().filter(move |c| c.listed && c.has(form))
}

fn general_83() -> String {
    let mut out = String::from(
        "\nUSAGE: drbdsetup device command arguments options\n\n\
         Device is usually /dev/drbdX or /dev/drbd/X.\n\
         General options: --create-device, --set-defaults\n\nCommands are:\n",
    );
    for (i, command) in listed(Dialect::V83).enumerate() {
        let form = command.old.as_ref();
        let arguments = form.is_some_and(|f| !f.arguments.is_empty());
        let options = !command.native_options(Dialect::V83).is_empty();
        let entry = format!(
            " {}{}{}",
            command.name,
            if arguments { " [args...]" } else { "" },
            if options { " [opts...]" } else { "" },
        );
        let _ = write!(out, "{entry:40}");
        if i % 2 == 1 {
            out.push('\n');
        }
    }
    if listed(Dialect::V83).count() % 2 == 1 {
        out.push('\n');
    }
    out + "\n\nTo get more details about a command issue 'drbdsetup help cmd'.\n\n"
}

fn general_84() -> String {
    let mut text = Wrapper::new(terminal_width());
    for command in listed(Dialect::V84) {
        text.item(4, &format!("{:18}  ", command.name));
    }
    text.newline();
    format!(
        "\nUSAGE: drbdsetup command device arguments options\n\n\
         Device is usually /dev/drbdX or /dev/drbd/X.\n\nCommands are:\n{}\n\
         To get more details about a command issue 'drbdsetup help cmd'.\n\n",
        text.finish()
    )
}

/// Columns of the terminal on stdout, 80 if it is none.
pub fn terminal_width() -> usize {
    drbdbox::sys::terminal::width(&std::io::stdout()).unwrap_or(80)
}

/// Usage of one command, with `USAGE:` in front.
pub fn command(command: &Command, form: Dialect) -> String {
    let body = match form {
        Dialect::V83 => command_83(command),
        Dialect::V84 => command_84(command),
    };
    format!("USAGE:\n{body}")
}

/// Whether 8.3 prints its options in full, with limits: the configuration commands.
fn is_full_83(command: &Command) -> bool {
    command.old.is_some_and(|f| f.configures)
}

/// One option in 8.3's usage, with a leading blank.
fn option_83(spec: &Spec, full: bool) -> String {
    let name = match spec.short {
        Some(short) => format!("--{}|-{short}", spec.long),
        None => format!("--{}", spec.long),
    };
    let value = match spec.target {
        _ if !full => String::new(),
        Target::Own(own) => match own.kind {
            OwnKind::Number { min, max, .. } => format!(" {min} ... {max}"),
            _ => String::new(),
        },
        Target::Setting { row, .. } => match row.kind {
            Kind::Number(_) => {
                row.range(Dialect::V83).map(|r| format!(" {} ... {}", r.min, r.max)).unwrap_or_default()
            }
            Kind::Choice(words) => {
                let words: Vec<&str> = words.iter().map(|w| w.text).collect();
                format!(" {{{}}}", words.join("|"))
            }
            Kind::Flag => String::new(),
            Kind::Text(_) | Kind::Hosts => " <str>".to_string(),
        },
    };
    format!(" [{{{name}}}{value}]")
}

/// Whether an option is printed in full even where it makes the line too long.
fn is_handler(spec: &Spec) -> bool {
    matches!(spec.target, Target::Setting { row, .. } if matches!(row.kind, Kind::Choice(_)))
}

/// 8.3's usage of a command, without `USAGE:`. spec/drbdsetup.md 2.2.2.
fn command_83(command: &Command) -> String {
    let specs = command.native_options(Dialect::V83);
    let full = is_full_83(command);
    let mut line = format!(" {}", command.name);
    for argument in command.old.map_or(&[][..], |f| f.arguments) {
        let _ = write!(line, " {argument}");
    }
    if !full {
        for spec in &specs {
            line += &option_83(spec, false);
        }
        return line + "\n";
    }
    let width = columns_variable().map_or(100, |columns| columns.saturating_sub(1));
    let mut out = String::new();
    // Nothing but the head, or the indent, is on the line yet.
    let mut fresh = true;
    for spec in &specs {
        let item = option_83(spec, true);
        if line.len() + item.len() >= width && !fresh {
            out += &line;
            out.push('\n');
            line = "    ".to_string();
        }
        if line.len() + item.len() >= width && !is_handler(spec) {
            // An option that fits on no line is cut off, unless it is a list of words.
            let room = width.saturating_sub(1).saturating_sub(line.len());
            line += item.get(..room).unwrap_or(&item);
        } else {
            line += &item;
        }
        fresh = false;
    }
    out + &line + "\n"
}

/// `COLUMNS`, if it is a number.
fn columns_variable() -> Option<usize> {
    std::env::var("COLUMNS").ok()?.parse().ok()
}

/// Names of an object in usage and XML texts.
fn object_words(object: Object) -> &'static [&'static str] {
    match object {
        Object::Minor => &["minor"],
        Object::Resource | Object::ResourceAndAddresses => &["resource"],
        Object::Any => &["resource", "minor", "all"],
        Object::ResourceOrAll => &["resource", "all"],
        Object::Addresses | Object::Nothing => &[],
    }
}

/// Whether two addresses follow the object.
fn has_addresses(object: Object) -> bool {
    matches!(object, Object::Addresses | Object::ResourceAndAddresses)
}

/// One option in 8.4's usage, with a leading blank.
fn option_84(spec: &Spec) -> String {
    let value = match spec.target {
        Target::Own(own) => match own.kind {
            OwnKind::Switch => "={yes|no}".to_string(),
            OwnKind::Plain => String::new(),
            OwnKind::Number { min, max, .. } => format!("=({min} ... {max})"),
            OwnKind::Text | OwnKind::OptionalText => "=...".to_string(),
            OwnKind::Address => "=[{af}:]{local_addr}[:{port}]".to_string(),
        },
        Target::Setting { row, .. } => match row.kind {
            Kind::Number(_) => {
                row.range(Dialect::V84).map(|r| format!("=({} ... {})", r.min, r.max)).unwrap_or_default()
            }
            Kind::Choice(words) => {
                let words: Vec<&str> = words.iter().map(|w| w.text).collect();
                format!("={{{}}}", words.join("|"))
            }
            Kind::Flag => "={yes|no}".to_string(),
            Kind::Text(_) | Kind::Hosts => "=<str>".to_string(),
        },
    };
    format!(" [--{}{value}]", spec.long)
}

/// 8.4's usage of a command, without `USAGE:`. spec/drbdsetup.md 6.1.
fn command_84(command: &Command) -> String {
    let Some(form) = command.new else {
        return command_83(command);
    };
    let mut text = Wrapper::new(terminal_width());
    text.item(1, &format!("drbdsetup {}", command.name));
    let words = object_words(form.object);
    if !words.is_empty() {
        text.item(4, &format!(" {{{}}}", words.join("|")));
    }
    if has_addresses(form.object) {
        text.item(4, " [{af}:]{local_addr}[:{port}]");
        text.item(4, " [{af}:]{remote_addr}[:{port}]");
    }
    for argument in form.arguments {
        text.item(4, &format!(" {{{argument}}}"));
    }
    for spec in command.native_options(Dialect::V84) {
        text.item(4, &option_84(&spec));
    }
    text.newline();
    text.finish()
}

/// `xml CMD` (8.3) or `xml-help CMD` (8.4). spec/drbdsetup.md 2.2.4.
pub fn xml(command: &Command, form: Dialect) -> String {
    if form == Dialect::V83 && !is_full_83(command) {
        return command_83(command);
    }
    let mut out = format!("<command name=\"{}\">\n", command.name);
    let argument = |out: &mut String, tabs: &str, name: &str| {
        let _ = writeln!(out, "{tabs}<argument>{name}</argument>");
    };
    match form {
        Dialect::V83 => {
            for name in command.old.map_or(&[][..], |f| f.arguments) {
                argument(&mut out, "\t", name);
            }
        }
        Dialect::V84 => {
            let Some(form) = command.new else {
                return out;
            };
            let words = object_words(form.object);
            if words.len() > 1 {
                out += "\t<group>\n";
                words.iter().for_each(|w| argument(&mut out, "\t\t", w));
                out += "\t</group>\n";
            } else {
                words.iter().for_each(|w| argument(&mut out, "\t", w));
            }
            if has_addresses(form.object) {
                argument(&mut out, "\t", "local_addr");
                argument(&mut out, "\t", "remote_addr");
            }
            form.arguments.iter().for_each(|a| argument(&mut out, "\t", a));
        }
    }
    for spec in command.native_options(form) {
        xml_option(&mut out, &spec, form);
    }
    out + "</command>\n"
}

/// What the XML says about a number.
struct NumberFacts {
    min: i64,
    max: i64,
    default: i64,
    prefix: &'static str,
    unit: &'static str,
}

fn xml_option(out: &mut String, spec: &Spec, form: Dialect) {
    use drbdbox::conf::value::Value;
    let mut body = String::new();
    let mut numeric = |facts: NumberFacts| {
        let prefix = if facts.prefix.is_empty() { "1" } else { facts.prefix };
        let _ = write!(
            body,
            "\t\t<min>{}</min>\n\t\t<max>{}</max>\n\t\t<default>{}</default>\n\
             \t\t<unit_prefix>{prefix}</unit_prefix>\n",
            facts.min, facts.max, facts.default
        );
        if !facts.unit.is_empty() {
            let _ = writeln!(body, "\t\t<unit>{}</unit>", facts.unit);
        }
    };
    let flag_default = |default: bool| match form {
        Dialect::V83 => String::new(),
        Dialect::V84 => format!("\t\t<default>{}</default>\n", if default { "yes" } else { "no" }),
    };
    let kind = match spec.target {
        Target::Own(own) => match own.kind {
            OwnKind::Switch => {
                body = flag_default(false);
                "boolean"
            }
            OwnKind::Plain => "flag",
            OwnKind::Text | OwnKind::OptionalText => "string",
            OwnKind::Address => "address",
            OwnKind::Number { unit, min, max, default, unit_text } => {
                numeric(NumberFacts { min, max, default, prefix: unit.letter(), unit: unit_text });
                "numeric"
            }
        },
        Target::Setting { row, .. } => match row.kind {
            Kind::Number(unit) => {
                let range = row.range(form);
                let default = match row.default_value(form) {
                    Value::Number(number) => number,
                    _ => 0,
                };
                numeric(NumberFacts {
                    min: range.map_or(0, |r| r.min),
                    max: range.map_or(i64::MAX, |r| r.max),
                    default,
                    prefix: unit.letter(),
                    unit: row.unit_text(form),
                });
                "numeric"
            }
            Kind::Choice(words) => {
                for word in words {
                    let _ = writeln!(body, "\t\t<handler>{}</handler>", word.text);
                }
                "handler"
            }
            Kind::Flag => {
                body = flag_default(row.default_value(form) == Value::Flag(true));
                "boolean"
            }
            Kind::Text(_) | Kind::Hosts => "string",
        },
    };
    let _ = write!(out, "\t<option name=\"{}\" type=\"{kind}\">\n{body}\t</option>\n", spec.long);
}
