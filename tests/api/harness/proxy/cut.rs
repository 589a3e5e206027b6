//! Cutting a connection at a chosen place of PostgreSQL's protocol: after a number of messages or
//! bytes of one statement's exchange.
//!
//! An exchange begins with the Bind of a prepared statement and ends with `ReadyForQuery`. Its
//! messages are counted over both directions: Bind, Execute, Sync, and then the answer's.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the exchange is cut.
#[derive(Debug, Clone, Copy)]
pub enum Cut {
    AfterMessages(usize),
    AfterBytes(usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// The next cut of a proxy, for whichever connection runs the statement first.
#[derive(Default)]
pub struct Knife {
    statement: Option<&'static str>,
    next: Mutex<Option<Cut>>,
    cuts: AtomicUsize,
}

impl Knife {
    pub fn at(statement: &'static str) -> Self {
        Self { statement: Some(statement), ..Self::default() }
    }

    pub fn is_used(&self) -> bool {
        self.statement.is_some()
    }

    pub fn arm(&self, cut: Cut) {
        *self.next.lock().unwrap() = Some(cut);
    }

    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }

    fn is_for(&self, text: &[u8]) -> bool {
        let statement = self.statement.unwrap().as_bytes();
        text.windows(statement.len()).any(|window| window == statement)
    }
}

/// How much of a message passes before the connection is cut.
pub enum Admitted {
    Whole,
    Until(usize),
}

/// What one connection has prepared, and the rest of the exchange that will be cut.
#[derive(Default)]
pub struct Exchanges {
    /// The names of the statements that can be cut.
    prepared: HashSet<Vec<u8>>,
    rest: Option<Cut>,
}

impl Exchanges {
    pub fn admit(&mut self, direction: Direction, message: &[u8], knife: &Knife) -> Admitted {
        match (direction, message.first()) {
            // Parse: the name, the text and the types of the parameters.
            (Direction::ToServer, Some(b'P')) if knife.is_for(message) => {
                self.prepared.insert(text(&message[5..]).to_vec());
            }
            // Bind: the portal, the name of the statement, and more.
            (Direction::ToServer, Some(b'B')) => {
                let portal = text(&message[5..]);
                if self.prepared.contains(text(&message[5 + portal.len() + 1..])) {
                    self.rest = self.rest.or_else(|| knife.next.lock().unwrap().take());
                }
            }
            _ => {}
        }
        let admitted = self.spend(message.len());
        if matches!(admitted, Admitted::Until(_)) {
            knife.cuts.fetch_add(1, Ordering::Relaxed);
        } else if direction == Direction::ToClient && message.first() == Some(&b'Z') {
            // The exchange was shorter than that.
            self.rest = None;
        }
        admitted
    }

    fn spend(&mut self, bytes: usize) -> Admitted {
        let (admitted, rest) = match self.rest {
            None => return Admitted::Whole,
            Some(Cut::AfterMessages(0)) => (Admitted::Until(0), None),
            Some(Cut::AfterMessages(1)) => (Admitted::Until(bytes), None),
            Some(Cut::AfterMessages(left)) => (Admitted::Whole, Some(Cut::AfterMessages(left - 1))),
            Some(Cut::AfterBytes(left)) if left <= bytes => (Admitted::Until(left), None),
            Some(Cut::AfterBytes(left)) => (Admitted::Whole, Some(Cut::AfterBytes(left - bytes))),
        };
        self.rest = rest;
        admitted
    }
}

/// The bytes up to the next zero.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap()
}

/// The messages of one direction of a connection, which is not encrypted.
pub struct Messages {
    /// The first message of a client has no type.
    untyped: bool,
    bytes: Vec<u8>,
}

impl Messages {
    pub fn new(direction: Direction) -> Self {
        Self { untyped: direction == Direction::ToServer, bytes: Vec::new() }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if all of it has come.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        let at = usize::from(!self.untyped);
        let length = self.bytes.get(at..at + 4)?;
        let length = u32::from_be_bytes(length.try_into().unwrap());
        let end = at + usize::try_from(length).unwrap();
        if self.bytes.len() < end {
            return None;
        }
        self.untyped = false;
        Some(self.bytes.drain(..end).collect())
    }
}
