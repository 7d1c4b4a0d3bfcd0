//! One page of the manual: paragraphs and lists in, roff (the man macros) out.
//!
//! In texts, what stands between backticks is what one types: it becomes bold.

use drbdbox::sys::build;

/// Columns of the source text: a line of roff is not longer, unless one word is.
const COLUMNS: usize = 80;

/// A page under construction.
#[derive(Debug)]
pub struct Page {
    /// Without the section's number.
    pub name: String,
    /// 5: files; 8: programs of the administrator.
    pub section: u8,
    text: String,
}

impl Page {
    /// Begins a page; `about` is what `apropos` prints behind the name.
    pub fn new(name: &str, section: u8, about: &str) -> Page {
        let text = format!(
            ".\\\" Made by drbdbox from the tables of the program.\n\
             .TH {} {section} {} \"drbdbox {}\" \"drbdbox\"\n\
             .nh\n",
            name.to_uppercase(),
            build::date(),
            build::RELEASE
        );
        let mut page = Page { name: name.to_string(), section, text };
        page.heading("NAME");
        page.text += &format!("{} \\- {}\n", words(name), words(about));
        page
    }

    /// Name of its file: `drbd.conf.5`.
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }

    /// The page.
    pub fn finish(self) -> String {
        self.text
    }

    /// A section. What follows is indented.
    pub fn heading(&mut self, title: &str) {
        self.text += &format!(".SH {}\n", quoted(title));
    }

    /// A part of a section.
    pub fn subheading(&mut self, title: &str) {
        self.text += &format!(".SS {}\n", quoted(title));
    }

    /// The first lines below a heading, or more of an item.
    pub fn text(&mut self, text: &str) {
        self.text += &filled(text);
    }

    /// A paragraph that is not the first one below its heading.
    pub fn paragraph(&mut self, text: &str) {
        self.text += ".PP\n";
        self.text(text);
    }

    /// A word and what is to be said about it.
    pub fn item(&mut self, word: &str, text: &str) {
        self.text += &format!(".TP\n{}\n", words(word));
        self.text(text);
    }

    /// The next paragraph of an item.
    pub fn more(&mut self, text: &str) {
        self.text += ".IP\n";
        self.text(text);
    }

    /// Lines as they are.
    pub fn example(&mut self, lines: &str) {
        self.text += ".PP\n.RS 4\n.nf\n";
        for line in lines.lines() {
            self.text += &match line.is_empty() {
                true => ".sp\n".to_string(),
                false => format!("{}\n", guarded(&code(line))),
            };
        }
        self.text += ".fi\n.RE\n";
    }

    /// The last section: other pages, as `name(section)`.
    pub fn see_also(&mut self, pages: &[&str]) {
        self.heading("SEE ALSO");
        let own = format!("{}({})", self.name, self.section);
        let mut others: Vec<&str> = pages.iter().copied().filter(|page| *page != own).collect();
        // The order that linters of such pages want.
        others.sort_by_key(|page| (page.rsplit('(').next().unwrap_or_default(), *page));
        for (i, page) in others.iter().enumerate() {
            let (name, rest) = page.split_at(page.find('(').unwrap_or(page.len()));
            let comma = if i + 1 < others.len() { "," } else { "" };
            self.text += &format!(".BR {} {rest}{comma}\n", code(name));
        }
    }
}

/// A line of a table as a sentence.
pub fn sentence(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let mut letters = text.chars();
    let mut made = String::new();
    // Not the name of a command.
    if word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        made.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
    }
    made.push_str(letters.as_str());
    if !made.ends_with('.') {
        made.push('.');
    }
    made
}

/// Words in running text.
fn words(text: &str) -> String {
    let mut made = String::new();
    for (i, part) in text.split('`').enumerate() {
        match i % 2 {
            0 => made += &prose(part),
            _ => made += &format!("\\fB{}\\fR", code(part)),
        }
    }
    guarded(&made)
}

fn prose(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('–', "\\(en").replace('…', "\\&...");
    // An option outside of backticks is one all the same.
    text.split(' ')
        .map(|w| if w.starts_with('-') { w.replace('-', "\\-") } else { w.to_string() })
        .collect::<Vec<_>>()
        .join(" ")
}

/// What is typed: its hyphens are those of ASCII, its quotes and carets, too.
fn code(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    text.replace('`', "\\(ga").replace('^', "\\(ha").replace('~', "\\(ti").replace('…', "\\&...")
}

/// A line that roff would take for an order.
fn guarded(line: &str) -> String {
    match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_string(),
    }
}

fn quoted(title: &str) -> String {
    format!("\"{}\"", code(title).replace('"', "\\(dq"))
}

/// Running text in lines; each sentence begins on one of its own.
fn filled(text: &str) -> String {
    let mut made = String::new();
    let mut line = String::new();
    // What is typed stays on one line.
    let mut pieces: Vec<String> = Vec::new();
    let mut open = false;
    for word in text.split_whitespace() {
        match pieces.last_mut().filter(|_| open) {
            Some(last) => *last += &format!(" {word}"),
            None => pieces.push(word.to_string()),
        }
        open ^= word.matches('`').count() % 2 == 1;
    }
    for piece in &pieces {
        if !line.is_empty() && words(&format!("{line} {piece}")).len() > COLUMNS {
            made += &format!("{}\n", words(&line));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += piece;
        if piece.trim_end_matches([')', '"']).ends_with(['.', '?', '!']) {
            made += &format!("{}\n", words(&line));
            line.clear();
        }
    }
    if !line.is_empty() {
        made += &format!("{}\n", words(&line));
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_roff_would_understand_is_text() {
        let mut page = Page::new("x-y", 8, "a-b");
        page.heading("A");
        page.text(".so \\n is `a-b '` and . Yes. No");
        page.example(".x\n\n'y");
        let text = page.finish();
        for line in [
            "x-y \\- a-b",
            "\\&.so \\en is \\fBa\\-b \\(aq\\fR and .",
            "Yes.",
            "No",
            "\\&.x",
            ".sp",
            "\\(aqy",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
    }

    #[test]
    fn lines_are_short() {
        let mut page = Page::new("x", 8, "a");
        page.text(&"word `two words` ".repeat(40));
        assert!(page.finish().lines().all(|line| line.len() <= COLUMNS));
    }
}
