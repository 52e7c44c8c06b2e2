//! JSON as text: read a level at a time, checked without a tree, written with the escapes that clients
//! see. A value that passes through keeps the text that it came in.
//!
//! | | |
//! |---|---|
//! | [`raw`] | members and elements of a text that nobody has looked at |
//! | [`checked`] | members of a text whose grammar is known to be right |
//! | [`value`] | whether a text is a value that every reader takes |
//! | [`text`] | strings, read and written |
//! | [`number`] | numbers, read and written |
//! | [`compare`] | whether two texts are the same value |
//! | `phrase` | how a caller is told what is wrong with an input |
//!
//! May not know any message.

pub mod checked;
pub mod compare;
pub mod number;
pub(super) mod phrase;
pub mod raw;
pub mod text;
pub mod value;
