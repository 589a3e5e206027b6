//! The resources: for each its row, its fields and their rules. [`input`] reads a JSON body by such
//! a list of fields, [`rules`] checks a value.

pub mod doctor;
pub mod input;
pub mod mapping;
pub mod members;
pub mod nearest;
pub mod patient;
pub mod rules;
pub mod user;
