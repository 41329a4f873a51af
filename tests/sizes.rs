//! Holds all code of this repository to sizes that a reader can keep in mind: files, and functions.

use std::fs;
use std::path::{Path, PathBuf};

const FOLDERS: &[&str] = &["src", "macros", "loadgen", "tests", "benches", "examples", "fuzz"];

const MAX_FILE_LINES: usize = 600;

/// From the line of `fn` to that of the closing brace, both counted.
const MAX_FUNCTION_LINES: usize = 80;

/// The simulator's drivers: they move bytes, and both together fit into one look.
const SIMULATED_DRIVERS: [&str; 2] = ["src/sim/control.rs", "src/sim/worker.rs"];
const MAX_DRIVER_LINES: usize = 299;

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in FOLDERS {
        collect(root, &root.join(folder), &mut found);
    }
    assert!(found.len() > 200, "{} files only: is this the right folder?", found.len());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root).unwrap().to_owned(), text));
        }
    }
}

struct Function {
    name: String,
    first_line: usize,
    lines: usize,
}

/// The code with comments, strings and chars blanked out: their braces and words say nothing. Line
/// breaks stay, so that lines keep their numbers.
fn blanked(text: &str) -> Vec<u8> {
    let mut code = text.as_bytes().to_vec();
    let mut at = 0;
    while at < code.len() {
        let end = skipped(text.as_bytes(), at);
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    code
}

/// Where what begins here ends, when it is a comment, string or char; else `at` itself.
fn skipped(text: &[u8], at: usize) -> usize {
    let rest = &text[at..];
    let in_a_word = at > 0 && is_word(text[at - 1]);
    let length = match rest[0] {
        b'/' if rest.starts_with(b"//") => rest.iter().position(|byte| *byte == b'\n'),
        b'/' if rest.starts_with(b"/*") => Some(block_comment(rest)),
        b'"' => Some(quoted(rest, b'"')),
        b'r' if !in_a_word || text[at - 1] == b'b' => match raw_string(rest) {
            Some(length) => Some(length),
            None => return at,
        },
        // A quote begins a char or a lifetime; only a char has a quote behind one character.
        b'\'' if is_char(rest) => Some(quoted(rest, b'\'')),
        _ => return at,
    };
    length.map_or(text.len(), |length| at + length)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_char(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(first) if first.is_ascii() => rest.get(2) == Some(&b'\''),
        first => first.is_some(),
    }
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += 1 + usize::from(rest[at] == b'\\');
    }
    (at + 1).min(rest.len())
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    let body = rest[1 + hashes..].strip_prefix(b"\"")?;
    let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let length = body.windows(end.len()).position(|window| window == end).unwrap_or(body.len());
    Some((2 + hashes + length + end.len()).min(rest.len()))
}

fn functions(text: &str) -> Vec<Function> {
    let code = blanked(text);
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < code.len() {
        let word = code[at..].iter().take_while(|byte| is_word(**byte)).count();
        if &code[at..at + word] == b"fn"
            && let Some((name, lines)) = function(&code[at + word..])
        {
            found.push(Function { name, first_line: line, lines });
        }
        line += usize::from(code[at] == b'\n');
        at += word.max(1);
    }
    found
}

/// The name and the lines of what stands behind `fn`; `None` for a type, or a function without a
/// body.
fn function(code: &[u8]) -> Option<(String, usize)> {
    let code = &code[code.iter().position(|byte| !byte.is_ascii_whitespace())?..];
    let name = code.iter().take_while(|byte| is_word(**byte) || **byte == b'$').count();
    let (mut braces, mut others, mut lines) = (0, 0, 1);
    for byte in &code[name..] {
        match byte {
            b'\n' => lines += 1,
            b'(' | b'[' => others += 1,
            b')' | b']' if others == 0 => return None,
            b')' | b']' => others -= 1,
            b';' if braces == 0 && others == 0 => return None,
            b'{' => braces += 1,
            b'}' if braces == 1 => {
                return (name > 0)
                    .then(|| (String::from_utf8_lossy(&code[..name]).into_owned(), lines));
            }
            b'}' if braces == 0 => return None,
            b'}' => braces -= 1,
            _ => {}
        }
    }
    None
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_FILE_LINES)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "over {MAX_FILE_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn the_drivers_of_the_simulator_only_move_bytes() {
    let sources = sources();
    let lines = SIMULATED_DRIVERS.map(|driver| {
        let driver = sources.iter().find(|(path, _)| path == Path::new(driver));
        driver.expect("there is such a file").1.lines().count()
    });
    let total: usize = lines.iter().sum();
    assert!(
        total <= MAX_DRIVER_LINES,
        "{SIMULATED_DRIVERS:?} have {lines:?} lines, {total} in all"
    );
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let (mut count, mut long) = (0, Vec::new());
    for (path, text) in sources() {
        for Function { name, first_line, lines } in functions(&text) {
            count += 1;
            if lines > MAX_FUNCTION_LINES {
                long.push(format!("{}:{first_line}: `{name}` has {lines} lines", path.display()));
            }
        }
    }
    assert!(count > 2_000, "{count} functions only: are they still found?");
    assert!(long.is_empty(), "over {MAX_FUNCTION_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn the_counter_of_lines_sees_through_strings_chars_and_comments() {
    let text = r###"
        /* a fn comment() { /* in a comment */ } */
        fn first<'a>(x: &'a [u8; 3], f: fn(u8) -> u8) -> char {
            let s = "fn no() { \" {"; // }}}
            let raw = r#"}" {{ "#;
            let c = ['{', '\'', '}', '\u{7d}', 'ä'];
            fn inner() {}
            b'{'.into()
        }
        trait T {
            fn no_body(&self) -> [u8; 2];
            fn with_body(&self)
            {
            }
        }
        type F = fn(u8);
    "###;
    let found: Vec<_> = functions(text)
        .into_iter()
        .map(|function| (function.name, function.first_line, function.lines))
        .collect();
    let expected = [("first", 3, 7), ("inner", 7, 1), ("with_body", 12, 3)];
    assert_eq!(found, expected.map(|(name, first, lines)| (name.to_owned(), first, lines)));
}
