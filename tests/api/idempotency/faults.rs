//! Answers that are lost on their way.
