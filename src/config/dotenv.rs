//! The file `.env` in the working directory.
//!
//! dotenvy parses it, a line at a time, so that an error names its line and a quote that is not
//! closed swallows none of the next. dotenvy would replace `$NAME` by a variable or by nothing, and
//! so change a password with a `$` without a word: such a line is refused.

use std::fs;
use std::io;

use super::{ConfigError, NAMES, wrong};

/// UTF-8's byte order mark, which some editors write.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// The longest name of our own, so that nothing longer is shown.
const MAX_SHOWN: usize = 32;

/// What the file contains.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DotEnv {
    /// Names are in upper case.
    pub variables: Vec<(String, String)>,
    /// One for each name that is no setting. The file may be shared with other programs, so such a
    /// name is no error.
    pub warnings: Vec<String>,
}

impl DotEnv {
    /// Empty if there is no file.
    pub fn read() -> Result<Self, ConfigError> {
        match fs::read(".env") {
            Ok(bytes) => Self::parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => wrong(format!(".env cannot be read: {error}")),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let text = std::str::from_utf8(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes));
        let text = text.map_err(|_| ConfigError(".env must be UTF-8".into()))?;
        let mut file = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            // dotenvy's errors quote the line, which may contain a secret.
            let malformed = || ConfigError(format!("line {number} of .env is not NAME=value"));
            match changed_silently(line) {
                Some('$') => {
                    return wrong(format!(
                        "line {number} of .env has a $, which must be in single quotes or after \
                         a backslash"
                    ));
                }
                Some(_) => return Err(malformed()),
                None => {}
            }
            for pair in dotenvy::from_read_iter(format!("{line}\n").as_bytes()) {
                let (name, value) = pair.map_err(|_| malformed())?;
                let name = name.to_ascii_uppercase();
                if !NAMES.contains(&name.as_str()) {
                    file.warnings.push(unknown(number, &name));
                }
                file.variables.push((name, value));
            }
        }
        Ok(file)
    }
}

/// What dotenvy would change without a word: a `$` outside of the single quotes that begin a value,
/// unless escaped, or a backslash at the end.
fn changed_silently(line: &str) -> Option<char> {
    let (name, value) = line.split_once('=')?;
    if name.trim_start().starts_with('#') {
        return None;
    }
    let value = value.trim();
    let quoted = value.strip_prefix('\'').and_then(|value| value.split_once('\''));
    let rest = quoted.map_or(value, |(_, rest)| rest);
    let mut is_escaped = false;
    for c in rest.chars() {
        if c == '$' && !is_escaped {
            return Some(c);
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    is_escaped.then_some('\\')
}

fn unknown(number: usize, name: &str) -> String {
    // A longer name may be the rest of a secret that was broken into lines.
    let name = if name.len() <= MAX_SHOWN { name } else { "a long name" };
    let nearest = match nearest(name) {
        Some(nearest) => format!("; the nearest is {nearest}"),
        None => String::new(),
    };
    format!("line {number} of .env sets {name}, which is not a setting of this program{nearest}")
}

/// The setting with the smallest edit distance, of at most two and a third of its length.
fn nearest(name: &str) -> Option<&'static str> {
    let distance = |known: &str| {
        Some(strsim::osa_distance(name, known))
            .filter(|distance| *distance <= (known.len() / 3).min(2))
    };
    let near = NAMES.iter().filter_map(|known| Some((distance(known)?, *known)));
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn parse(text: &str) -> Result<DotEnv, String> {
        DotEnv::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    fn value_of(line: &str) -> String {
        let mut file = parse(line).unwrap();
        assert_eq!((file.variables.len(), file.warnings.len()), (1, 0), "{line}");
        file.variables.remove(0).1
    }

    #[test]
    fn a_value_is_what_is_written_or_refused() {
        for (line, value) in [
            (r"LOG=a", "a"),
            (r"LOG=  ", ""),
            (r"log='a'  # A comment.", "a"),
            (r"export LOG=a", "a"),
            (r#"LOG="a b""#, "a b"),
            (r"LOG='a$b\c d#e'", r"a$b\c d#e"),
            (r"LOG=a\$b", "a$b"),
            (r#"LOG="a\$b""#, "a$b"),
            (r"LOG=a#b", "a#b"),
            (r"LOG=a\\", r"a\"),
        ] {
            assert_eq!(value_of(line), value, "{line}");
        }
        for line in [
            "LOG=a$b",
            "LOG=$",
            "LOG=a${HOME}b",
            r#"LOG="a$b""#,
            r"LOG='a'$b",
            r"LOG=\\$b",
            r"LOG='a\'$b",
            r#"LOG="'$b'""#,
            "export LOG=$a",
        ] {
            let told = parse(&format!("# $\n{line}")).unwrap_err();
            assert!(told.starts_with("line 2 of .env has a $"), "{line}: {told}");
        }
        for line in [
            r"LOG=a\",
            r"LOG='a\'",
            "LOG",
            "LOG=a b",
            "LOG='a",
            "LOG=\"a\nb\"",
            "=a",
            "LOG: a",
            r"LOG=a\b",
        ] {
            let told = parse(&format!("\n{line}\nPORT=1")).unwrap_err();
            assert_eq!(told, "line 2 of .env is not NAME=value", "{line}");
        }
        let told = DotEnv::parse(b"LOG=\xff").unwrap_err().to_string();
        assert_eq!(told, ".env must be UTF-8");
    }

    #[test]
    fn a_byte_order_mark_and_line_ends_of_windows_are_no_part_of_it() {
        let file = parse("\u{feff}LOG=info\r\nport=1\r\n").unwrap();
        let variables = [("LOG", "info"), ("PORT", "1")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(file, DotEnv { variables: variables.into(), warnings: Vec::new() });
    }

    #[test]
    fn a_name_that_is_no_setting_is_told_with_the_nearest() {
        const NO_SETTING: &str = "which is not a setting of this program";
        for (line, told) in [
            (
                "JWT_SECERT=x",
                format!("line 1 of .env sets JWT_SECERT, {NO_SETTING}; the nearest is JWT_SECRET"),
            ),
            ("LOGS=x", format!("line 1 of .env sets LOGS, {NO_SETTING}; the nearest is LOG")),
            ("TRUSTED_PROXY=x", format!("line 1 of .env sets TRUSTED_PROXY, {NO_SETTING}")),
            ("RUST_LOG=x", format!("line 1 of .env sets RUST_LOG, {NO_SETTING}")),
            ("PGPASSWORD=x", format!("line 1 of .env sets PGPASSWORD, {NO_SETTING}")),
        ] {
            assert_eq!(parse(line).unwrap().warnings, [told]);
        }
        let long = parse(&format!("{}=", "hunter2".repeat(5))).unwrap().warnings;
        assert!(!long[0].contains("HUNTER2"), "{long:?}");
    }
}
