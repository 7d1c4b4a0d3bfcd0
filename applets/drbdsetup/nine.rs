//! DRBD 9's `status`: with `--json`, or under a name that ends in `-9`. spec/drbdsetup.md 7,
//! spec/decisions.md 1.7.

use super::daemon::Asker;
use super::failure::{out, Failure, Outcome};
use super::getopt::Parser;
use super::table::{Own, OwnKind, Spec, Target};
use super::usage::terminal_width;
use drbdbox::conf::Dialect;
use drbdbox::status::status84::chosen;
use drbdbox::status::status9::{self, Style, View};
use std::io::IsTerminal;

/// An option of 9's forms.
pub const fn option(long: &'static str, short: char, kind: OwnKind) -> Spec {
    let own = Own { long, short: Some(short), kind };
    Spec { long, short: Some(short), target: Target::Own(own), native: true }
}

/// Options of 9's `status`; colours are accepted and not used.
const STATUS: [Spec; 4] = [
    option("verbose", 'v', OwnKind::Plain),
    option("statistics", 's', OwnKind::Plain),
    option("json", 'j', OwnKind::Plain),
    option("color", 'c', OwnKind::OptionalText),
];

/// Whether the words of a `status` or `events2` ask for 9's form. spec/decisions.md 1.7.
pub fn is_asked_for(words: &[String]) -> bool {
    const ONLY_9: [&str; 8] = ["--json", "-j", "--full", "--diff", "--poll", "-f", "-i", "-p"];
    words.iter().any(|word| ONLY_9.contains(&word.as_str()))
}

/// `status [RESOURCE] [OPTIONS]`.
pub fn status(words: &[String]) -> Outcome {
    let mut parser = Parser::new("status", words, &STATUS);
    let (mut verbose, mut statistics, mut json) = (0, false, false);
    while let Some(found) = parser.next_option() {
        match found.map(|found| found.spec.long) {
            Ok("verbose") => verbose += 1,
            Ok("statistics") => statistics = true,
            Ok("json") => json = true,
            Ok(_) => {}
            Err(bad) => return Err(Failure::refused(format!("status: {}", bad.text()))),
        }
    }
    let object = match parser.others() {
        [] => "all",
        [object] => object.as_str(),
        [_, excess @ ..] => {
            return Err(Failure::refused(format!("Excess arguments: {}", excess.join(" "))));
        }
    };
    let asker = Asker { object, form: Dialect::V84 };
    let snapshot = asker.snapshot()?;
    if object != "all" && snapshot.resource(object).is_none() {
        return Err(Failure { status: 10, ..Failure::refused(format!("{object}: No such resource")) });
    }
    let resources = chosen(&snapshot, object);
    let views: Vec<View> = resources.iter().map(|r| status9::view(snapshot.now_ms, r)).collect();
    if json {
        out(&status9::json(&views));
        return Ok(0);
    }
    if views.is_empty() {
        out("# No currently configured DRBD found.\n");
    }
    let terminal = std::io::stdout().is_terminal();
    let style = Style { verbose, statistics, terminal, width: terminal_width() };
    for view in &views {
        out(&status9::text(view, &style));
    }
    Ok(0)
}
