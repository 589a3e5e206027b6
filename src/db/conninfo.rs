//! Parses connection strings as libpq does: `host=... sslmode=...`, or a URL (PostgreSQL's
//! documentation, section 34.1.1).

use percent_encoding::percent_decode_str;

/// The supported parameters, by libpq's names. libpq's others are refused, because ignoring them
/// silently could weaken a connection.
pub const NAMES: [&str; 20] = [
    "user",
    "password",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "sslmode",
    "sslrootcert",
    "connect_timeout",
    "target_session_attrs",
    "load_balance_hosts",
    "channel_binding",
    "options",
    "application_name",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    // The driver's name for the one before.
    "keepalives_retries",
];

/// Why a string is malformed. It quotes nothing, because any part could be of the password.
type Flaw = String;

/// The parameters of a connection string by name. If one is repeated, the last counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        for scheme in ["postgres://", "postgresql://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return url(rest);
            }
        }
        words(text)
    }

    /// A value that is set and not empty; an empty one means the default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Whether a parameter was given an empty value. To libpq that means the default, except for
    /// `sslmode`.
    pub fn is_given_empty(&self, name: &str) -> bool {
        self.0.iter().any(|(found, value)| *found == name && value.is_empty())
    }

    /// All parameters that are not empty.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let set = self.0.iter().filter(|(_, value)| !value.is_empty());
        set.map(|(name, value)| (*name, value.as_str()))
    }

    /// `show`: whether an unknown name may be quoted, because it cannot be part of a password.
    fn set(&mut self, name: &str, value: String, show: bool) -> Result<(), Flaw> {
        let Some(name) = NAMES.iter().find(|known| **known == name) else {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            return Err(if show && !name.is_empty() && name.chars().all(word) {
                format!("has the parameter {name}, which is not supported")
            } else {
                "has a parameter that does not exist; \
                 blanks in a value need quotes, and in a URL / ? # @ need percent-encoding"
                    .to_owned()
            });
        };
        self.0.retain(|(set, _)| set != name);
        self.0.push((name, value));
        Ok(())
    }
}

/// White space as C's `isspace` has it; other Unicode blanks are ordinary characters.
fn blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

fn words(text: &str) -> Result<Parameters, Flaw> {
    let mut parameters = Parameters::default();
    let mut rest = text.trim_start_matches(blank);
    let mut after_password = false;
    while !rest.is_empty() {
        let (name, after) =
            rest.split_at(rest.find(|c| c == '=' || blank(c)).unwrap_or(rest.len()));
        let Some(after) = after.trim_start_matches(blank).strip_prefix('=') else {
            return Err("is not a connection string; \
                        one looks like postgres://user:password@host:5432/database"
                .to_owned());
        };
        let (value, after) = take_value(after.trim_start_matches(blank))?;
        // The rest of an unquoted password with a space looks like another parameter.
        parameters.set(name, value, !after_password)?;
        after_password = name == "password";
        rest = after.trim_start_matches(blank);
    }
    Ok(parameters)
}

/// A value and the rest. A backslash escapes the next character.
fn take_value(text: &str) -> Result<(String, &str), Flaw> {
    let (text, quoted) = text.strip_prefix('\'').map_or((text, false), |text| (text, true));
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        let rest = chars.as_str();
        match chars.next() {
            Some('\\') => value.extend(chars.next()),
            Some('\'') if quoted => return Ok((value, chars.as_str())),
            Some(c) if !quoted && blank(c) => return Ok((value, rest)),
            Some(c) => value.push(c),
            None if quoted => return Err("has a quote that is not closed".to_owned()),
            None => return Ok((value, rest)),
        }
    }
}

/// Parses what follows the scheme:
/// `user:password@host:port,host:port/dbname?name=value&name=value`.
fn url(text: &str) -> Result<Parameters, Flaw> {
    let mut parameters = Parameters::default();
    let mut set = |name, value: &str, show| parameters.set(name, decode(value)?, show);
    let mut rest = text;
    let authority = text.split('/').next().unwrap_or_default();
    if let Some((credentials, _)) = authority.split_once('@') {
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        set("user", user, true)?;
        set("password", password, true)?;
        rest = &text[credentials.len() + 1..];
    }
    let (hosts, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let pairs: Vec<(&str, &str)> = hosts.split(',').map(host_and_port).collect::<Result<_, _>>()?;
    let (hosts, ports): (Vec<&str>, Vec<&str>) = pairs.into_iter().unzip();
    set("host", &hosts.join(","), true)?;
    set("port", &ports.join(","), true)?;
    let (dbname, query) = rest.split_once('?').unwrap_or((rest, ""));
    set("dbname", dbname.strip_prefix('/').unwrap_or(dbname), true)?;
    for pair in query.strip_suffix('&').unwrap_or(query).split('&').filter(|_| !query.is_empty()) {
        let Some((name, value)) = pair.split_once('=').filter(|(_, value)| !value.contains('='))
        else {
            return Err("has a query that is not name=value&name=value".to_owned());
        };
        let (mut name, mut value) = (decode(name)?, decode(value)?);
        // JDBC's name for it.
        if (&*name, &*value) == ("ssl", "true") {
            (name, value) = ("sslmode".to_owned(), "require".to_owned());
        }
        // An unencoded password could extend this far.
        parameters.set(&name, value, !query.contains('@'))?;
    }
    Ok(parameters)
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
fn host_and_port(text: &str) -> Result<(&str, &str), Flaw> {
    let Some(bracketed) = text.strip_prefix('[') else {
        return Ok(text.split_once(':').unwrap_or((text, "")));
    };
    match bracketed.split_once(']') {
        Some((host, "")) if !host.is_empty() => Ok((host, "")),
        Some((host, port)) if !host.is_empty() && port.starts_with(':') => Ok((host, &port[1..])),
        _ => Err("has an address in brackets that is not [address] or [address]:port".to_owned()),
    }
}

fn decode(text: &str) -> Result<String, Flaw> {
    let mut parts = text.split('%');
    parts.next();
    for part in parts {
        match part.as_bytes() {
            [b'0', b'0', ..] => return Err("has a %00, which nothing may contain".to_owned()),
            [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
            _ => return Err("has a % that is no percent-encoding; write %25".to_owned()),
        }
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err("is not UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn blanks() -> impl Strategy<Value = &'static str> {
        select(vec!["", " ", "\t", "\n", "\r\n", "\u{b}\u{c}  "])
    }

    /// A parameter, and one of its spellings.
    fn spelled() -> impl Strategy<Value = (&'static str, String, String)> {
        let value = "[a-z='\\\\ \t\u{a0}%@/]{0,8}";
        let parts = (select(&NAMES[..]), value, any::<bool>(), blanks(), blanks(), blanks());
        parts.prop_map(|(name, value, quoted, before, between, after)| {
            let spelled = if quoted || value.is_empty() {
                format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
            } else {
                let special = |c| blank(c) || c == '\\' || c == '\'';
                let escape = |c| if special(c) { format!("\\{c}") } else { c.to_string() };
                value.chars().map(escape).collect()
            };
            (name, value, format!("{before}{name}{between}={after}{spelled} "))
        })
    }

    proptest! {
        #[test]
        fn however_it_is_spelled_the_last_value_of_a_name_is_understood(all in vec(spelled(), 0..6)) {
            let text: String = all.iter().map(|(_, _, spelled)| spelled.as_str()).collect();
            let parsed = Parameters::parse(&text).map_err(TestCaseError::fail)?;
            for name in NAMES {
                let last = all.iter().rev().find(|(given, _, _)| *given == name);
                let last = last.map(|(_, value, _)| value.as_str());
                prop_assert_eq!(parsed.get(name), last.filter(|value| !value.is_empty()));
                prop_assert_eq!(parsed.is_given_empty(name), last == Some(""));
            }
        }

        #[test]
        fn no_text_is_too_strange(text in "(postgres://)?[a-z=' \\\\%0@:/?&,\\[\\]\u{e9}]{0,40}") {
            drop(Parameters::parse(&text));
        }
    }

    #[test]
    fn the_parts_of_a_url_are_where_libpq_finds_them() {
        for (text, expected) in [
            (
                "u:p@h:1/d?user=v",
                &[("password", "p"), ("host", "h"), ("port", "1"), ("dbname", "d"), ("user", "v")]
                    [..],
            ),
            // The first @ ends the password, unless a / comes before it.
            ("u:p?q@h", &[("user", "u"), ("password", "p?q"), ("host", "h")]),
            ("h/d?password=a@b", &[("host", "h"), ("dbname", "d"), ("password", "a@b")]),
            ("u%40x:%3A@h", &[("user", "u@x"), ("password", ":"), ("host", "h")]),
            ("a:1,[::1],b", &[("host", "a,::1,b"), ("port", "1,,")]),
            ("/d", &[("dbname", "d")]),
            ("?host=/run&port=7", &[("host", "/run"), ("port", "7")]),
        ] {
            let parsed = Parameters::parse(&format!("postgres://{text}")).unwrap_or_default();
            for name in NAMES {
                let value = expected.iter().find(|(found, _)| *found == name).map(|(_, v)| *v);
                assert_eq!(parsed.get(name), value, "{name} of {text}");
            }
        }
    }
}
