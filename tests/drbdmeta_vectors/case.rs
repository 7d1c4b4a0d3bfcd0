//! The vector files: cases, steps, disk images (form: tests/vectors/metadata/README.md).

use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of a block of an image.
pub const BLOCK: usize = 4096;

/// Everything non-zero on a device: byte offset of a block to its bytes.
pub type Image = BTreeMap<u64, Vec<u8>>;

/// What stdin is in a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Stdin {
    /// Empty.
    Empty,
    /// Both output streams go to one place.
    Terminal(Vec<String>),
    /// A pipe with this content.
    Pipe(String),
}

/// One call.
#[derive(Debug, Clone)]
pub struct Step {
    pub notes: Vec<String>,
    pub words: Vec<String>,
    pub stdin: Stdin,
    pub exit: i32,
    pub stdout: String,
    pub stderr: String,
    pub terminal: Option<String>,
    /// The record of the last known device: unchecked, absent, or its content.
    pub record: Option<Option<String>>,
    pub disk: Option<Image>,
}

/// Calls on one device.
#[derive(Debug, Clone)]
pub struct Case {
    pub file: String,
    pub title: String,
    pub device_bytes: u64,
    pub initial: String,
    pub initial_disk: Option<Image>,
    pub initial_record: Option<String>,
    pub dump_file: Option<String>,
    pub steps: Vec<Step>,
    /// All lines, for cases in a form of their own.
    pub lines: Vec<String>,
}

/// All cases of a vector file.
pub fn read(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/metadata").join(file);
    let text = std::fs::read_to_string(&path).expect("vector file");
    let mut cases = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if line == "=== END" {
            cases.push(parse(file, &lines));
            lines.clear();
        } else if !(lines.is_empty() && line.is_empty()) {
            lines.push(line.to_string());
        }
    }
    assert!(!cases.is_empty(), "{file} has no cases");
    cases
}

const MARKERS: [&str; 6] = ["--- ", "run: ", "exit: ", "stdin: ", "note: ", "=== "];

fn parse(file: &str, lines: &[String]) -> Case {
    let mut case = Case {
        file: file.to_string(),
        title: lines[0].replacen("=== CASE ", "", 1),
        device_bytes: 0,
        initial: String::new(),
        initial_disk: None,
        initial_record: None,
        dump_file: None,
        steps: Vec::new(),
        lines: lines.to_vec(),
    };
    let mut notes = Vec::new();
    let mut at = 1;
    while at < lines.len() {
        let line = &lines[at];
        at += 1;
        let mut end = at;
        while end < lines.len() && !MARKERS.iter().any(|m| lines[end].starts_with(m)) {
            end += 1;
        }
        if let Some(rest) = line.strip_prefix("device: ") {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            case.device_bytes = digits.parse().expect("device size");
        } else if let Some(rest) = line.strip_prefix("initial: ") {
            case.initial = rest.to_string();
        } else if let Some(rest) = line.strip_prefix("note: ") {
            notes.push(rest.to_string());
        } else if let Some(rest) = line.strip_prefix("run: drbdmeta ") {
            case.steps.push(Step {
                notes: std::mem::take(&mut notes),
                words: rest.split(" (").next().unwrap_or("").split_whitespace().map(str::to_string).collect(),
                stdin: Stdin::Empty,
                exit: 0,
                stdout: String::new(),
                stderr: String::new(),
                terminal: None,
                record: None,
                disk: None,
            });
        } else if let Some(rest) = line.strip_prefix("exit: ") {
            let digits = rest.split(' ').next().unwrap_or("");
            if let Some(step) = case.steps.last_mut() {
                step.exit = digits.parse().expect("exit status");
            }
        } else if let Some(rest) = line.strip_prefix("stdin: ") {
            if let Some(step) = case.steps.last_mut() {
                step.stdin = stdin(rest);
            }
        } else if let Some(name) = line.strip_prefix("--- ") {
            let body = &lines[at..end];
            at = end;
            section(&mut case, name, body);
        }
    }
    case
}

fn stdin(text: &str) -> Stdin {
    if let Some(list) = text.strip_prefix("terminal; answers typed: ") {
        let answers = list.trim_matches(['[', ']']).split(", ");
        return Stdin::Terminal(answers.map(|answer| answer.trim_matches('\'').to_string()).collect());
    }
    let content = text.strip_prefix("pipe, content ").expect("form of stdin");
    Stdin::Pipe(content.trim_matches('\'').replace("\\n", "\n"))
}

fn section(case: &mut Case, name: &str, body: &[String]) {
    let text: String = body.iter().map(|line| format!("{line}\n")).collect();
    let step = case.steps.last_mut();
    match (name, step) {
        ("stdout", Some(step)) => step.stdout = text,
        ("stderr", Some(step)) => step.stderr = text,
        // An empty file is shown as one empty line.
        ("file dump.txt", None) if text == "\n" => case.dump_file = Some(String::new()),
        ("file dump.txt", None) => case.dump_file = Some(text),
        _ if name.starts_with("terminal") => {
            if let Some(step) = case.steps.last_mut() {
                step.terminal = Some(text);
            }
        }
        _ if name.starts_with("disk") => {
            let image = image(body);
            match case.steps.last_mut() {
                Some(step) => step.disk = Some(image),
                None => case.initial_disk = Some(image),
            }
        }
        _ if name.starts_with("file /var/lib/drbd/drbd-minor-0.lkbd") => {
            let content = (!name.ends_with("absent")).then_some(text);
            match case.steps.last_mut() {
                Some(step) => step.record = Some(content),
                None => case.initial_record = content,
            }
        }
        _ => {}
    }
}

/// Reads a disk listing.
pub fn image(lines: &[String]) -> Image {
    let mut image = Image::new();
    let mut last = 0;
    for line in lines {
        if let Some(offset) = line.strip_prefix('@') {
            last = offset.parse().expect("block offset");
            image.insert(last, vec![0; BLOCK]);
        } else if let Some(rest) = line.strip_prefix("*repeat the block above ") {
            let count = rest.split(' ').next().unwrap_or("");
            let count: u64 = count.parse().expect("repetitions");
            let block = image[&last].clone();
            for _ in 0..count {
                last += BLOCK as u64;
                image.insert(last, block.clone());
            }
        } else if let Some(rest) = line.strip_prefix('+') {
            let mut words: Vec<&str> = rest.split(' ').collect();
            let row = unhex(words.pop().expect("row"));
            let start = usize::from_str_radix(words[0], 16).expect("row offset");
            let count = words.get(1).map_or(1, |x| x[1..].parse().expect("count"));
            let block = image.get_mut(&last).expect("block before row");
            for i in 0..count {
                block[start + 32 * i..start + 32 * i + 32].copy_from_slice(&row);
            }
        }
    }
    image
}

/// Bytes of hexadecimal digits.
pub fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).expect("hex digits"))
        .collect()
}
