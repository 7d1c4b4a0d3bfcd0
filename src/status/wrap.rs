//! The line breaking of 8.4's and 9's text output. spec/drbdsetup.md 7.6.
//!
//! Items are never split. Where the original drops a newline after an exactly full line, this is
//! as 9.34 does it.

/// Collects items into lines.
#[derive(Debug)]
pub struct Wrapper {
    out: String,
    column: usize,
    width: usize,
}

impl Wrapper {
    /// Lines of at most `width` columns, where items allow it.
    pub fn new(width: usize) -> Wrapper {
        Wrapper { out: String::new(), column: 0, width }
    }

    /// Appends an item. At the start of a line its leading blanks become `indent` blanks. Escape
    /// sequences of colours count like other characters.
    pub fn item(&mut self, indent: usize, text: &str) {
        let length = text.chars().count();
        if self.column > 0 && self.column + length > self.width {
            self.newline();
        }
        let text = if self.column == 0 {
            self.out.push_str(&" ".repeat(indent));
            self.column = indent;
            text.trim_start_matches(' ')
        } else {
            text
        };
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    /// Ends the line. An empty line stays empty.
    pub fn newline(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    /// What has been collected.
    pub fn finish(self) -> String {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_move_to_the_next_line_whole() {
        let mut text = Wrapper::new(20);
        for word in ["one:1", " two:22", " three:333", " four:4"] {
            text.item(4, word);
        }
        text.newline();
        assert_eq!(text.finish(), "    one:1 two:22\n    three:333 four:4\n");
    }
}
