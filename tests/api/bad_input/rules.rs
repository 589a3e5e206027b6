//! The rules of the contract as examples: for each kind of field, values just inside and just
//! outside. Values are raw JSON, because many errors are errors of spelling.

use crate::harness::random;

#[derive(Clone, Copy)]
pub enum Kind {
    /// Text that must not be blank.
    Name(usize),
    Text(usize),
    Integer(i64, i64),
    Gender,
    BirthDate,
    Phone,
    Email,
    BloodGroup,
    Metadata,
    Id,
    Password,
}

/// A character of four bytes and two UTF-16 units.
const WIDE: &str = "😀";

pub fn text(value: &str) -> String {
    format!("\"{value}\"")
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| text(value)).collect()
}

/// The same length in characters twice: in ASCII, and with four bytes each.
fn of_length(length: usize) -> [String; 2] {
    [text(&"x".repeat(length)), text(&WIDE.repeat(length))]
}

/// Metadata of this many bytes.
fn metadata(bytes: usize) -> String {
    format!("{{\"k\":\"{}\"}}", "x".repeat(bytes - r#"{"k":""}"#.len()))
}

/// An unused e-mail of this many bytes, at least 200.
fn email(bytes: usize) -> String {
    let label = "d".repeat(63);
    let domain = format!("{label}.{label}");
    let local = random();
    text(&format!("{local}{}@{domain}", "x".repeat(bytes - local.len() - 1 - domain.len())))
}

impl Kind {
    pub fn good(self) -> Vec<String> {
        match self {
            Self::Name(max) => {
                let mut good = texts(&["x", " x ", "\u{a0}x", "Zoë 'O; DROP TABLE users--"]);
                good.extend(of_length(max));
                // The same character, escaped.
                good.push(text(&"\\ud83d\\ude00".repeat(max)));
                good
            }
            Self::Text(max) => {
                let mut good =
                    texts(&["", " ", "x", "\\n\\t\\\\ \\\" \\u0001 \u{feff}", "e\u{301}"]);
                good.extend(of_length(max));
                good
            }
            Self::Integer(min, max) => vec![min.to_string(), max.to_string()],
            Self::Gender => {
                let good =
                    ["male", "female", "other", "unknown", "m", "f", "o", "MALE", "Female", "F"];
                texts(&good)
            }
            Self::BirthDate => texts(&["1850-01-01", "2000-02-29", "1999-12-31"]),
            Self::Phone => {
                let mut good = texts(&["1", "x", "+49 (30) 1234-5.6/7#8x9"]);
                good.push(text(&"1".repeat(32)));
                good
            }
            Self::Email => {
                let mut good: Vec<String> = ["@b", "@B.example", "+tag@x-y.example", ".a..b.@c"]
                    .map(|rest| text(&format!("{}{rest}", random())))
                    .into();
                good.push(text(&format!("{}!#$%&'*/=?^_`{{|}}~-@c", random())));
                good.push(email(254));
                good
            }
            Self::BloodGroup => texts(&["A+", "A-", "B+", "B-", "AB+", "AB-", "O+", "O-"]),
            Self::Metadata => vec![
                "{}".to_owned(),
                metadata(8192),
                r#"{"b": 1.0,  "a":1e2,"a":null,"é":"\u00e9😀","n":[{"m":{}}]}"#.to_owned(),
                // Two escapes that look like U+0000 and half a pair, but are not.
                r#"{"a":"\\u0000\\ud800"}"#.to_owned(),
            ],
            // Other tests check ids that do not exist.
            Self::Id => vec![],
            Self::Password => {
                let mut good = vec![text(&"x".repeat(8)), text(&"x".repeat(71))];
                good.extend([text(&"ä".repeat(8)), text(&WIDE.repeat(17))]);
                good
            }
        }
    }

    /// Values that are refused, besides null.
    pub fn bad(self) -> Vec<String> {
        let mut bad = self.of_wrong_type();
        if self.is_text() {
            let broken = ["a\\u0000b", "\\u0000", "\\ud800", "\\udc00x", "\\udc00\\ud800"];
            bad.extend(texts(&broken));
        }
        match self {
            Self::Name(max) => {
                bad.extend(texts(&["", " ", "\\t\\n", "\u{a0}", "\u{3000}\u{2003}", "\\u00a0"]));
                bad.extend(of_length(max + 1));
            }
            Self::Text(max) => bad.extend(of_length(max + 1)),
            Self::Integer(min, max) => {
                bad.extend([(min - 1).to_string(), (max + 1).to_string()]);
                bad.extend(["30.0", "1e1", "1E1", "0.5", "\"30\"", "\"\""].map(str::to_owned));
                bad.extend(["2147483648", "99999999999999999999"].map(str::to_owned));
            }
            Self::Gender => {
                bad.extend(texts(&["", "man", " male", "male ", "fe\\u0000male", "ｍ"]));
            }
            Self::BirthDate => bad.extend(texts(&[
                "",
                "1849-12-31",
                "2023-02-29",
                "1900-02-29",
                "2023-13-01",
                "2023-00-10",
                "2023-01-00",
                "2023-04-31",
                "2023-1-1",
                "23-01-01",
                "20230101",
                "2023/01/01",
                " 2023-01-01",
                "2023-01-01T00:00:00Z",
                "+002023-01-01",
                "-2023-01-01",
                "２023-01-01",
                "9999-12-31",
                "infinity",
                "today",
            ])),
            Self::Phone => {
                bad.extend(texts(&["", "abc", "1\\n", "\\t1", "١", "1X", "1,2", "1;2"]));
                bad.push(text(&"1".repeat(33)));
            }
            Self::Email => {
                bad.extend(texts(&[
                    "", "a", "@b", "a@", "a@-b", "a@b-", "a b@c", "a@b..c", "a@b.",
                ]));
                bad.extend(texts(&[" a@b", "a@b ", "a@b@c", "é@b", "a@é", "a@b_c", "a@b\\n"]));
                bad.push(text(&format!("a@{}", "b".repeat(64))));
                bad.push(email(255));
            }
            Self::BloodGroup => bad.extend(texts(&["", "a+", "A", "C+", "A +", "AB", "0+", "A−"])),
            Self::Metadata => {
                bad.push(metadata(8193));
                bad.extend(
                    [
                        r#"{"a":"\u0000"}"#,
                        r#"{"\u0000":1}"#,
                        r#"{"a":[{"b":{"c\u0000":[]}}]}"#,
                        r#"{"a":["x",["\u0000"]]}"#,
                        r#"{"a":"\ud800"}"#,
                        r#"{"a":"\ud800\ud800"}"#,
                        r#"{"a":"\\\ud800"}"#,
                        r#"{"\udc00":1}"#,
                    ]
                    .map(str::to_owned),
                );
            }
            Self::Id => {
                bad.extend(["0", "-1", "1.0", "1e0", "9223372036854775808"].map(str::to_owned));
                bad.extend(texts(&["", "0", "01", "+1", "-1", "1.0", " 1", "1 ", "abc", "１"]));
                bad.extend(texts(&["9223372036854775808", "1\\u0000"]));
            }
            Self::Password => {
                bad.extend([text(&"x".repeat(7)), text(&"x".repeat(72))]);
                bad.extend([text(&WIDE.repeat(7)), text(&WIDE.repeat(18))]);
                bad.push(text("long\\u0000enough"));
            }
        }
        bad
    }

    fn is_text(self) -> bool {
        !matches!(self, Self::Integer(..) | Self::Metadata | Self::Id)
    }

    fn of_wrong_type(self) -> Vec<String> {
        let json = ["1", "1.5", "true", "false", "[]", "[\"x\"]", "{}", "{\"a\":1}", "\"x\""];
        let right = |value: &&str| match self {
            Self::Integer(..) | Self::Id => value.parse::<i64>().is_ok(),
            Self::Metadata => value.starts_with('{'),
            _ => value.starts_with('"'),
        };
        json.iter().filter(|value| !right(value)).map(|value| (*value).to_owned()).collect()
    }
}
