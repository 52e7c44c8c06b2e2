//! The file in which a newer engine keeps the config of one worker: `config/<worker>.yaml` beside its
//! own.
//!
//! Read here, and looked into by `stored`.

use std::io;
use std::path::Path;

use super::FILE_BYTES_MAX;
use super::env::{Expanded, expand};

/// The file of one worker.
pub(super) struct StoredFile {
    pub(super) worker: &'static str,
    /// As a message names it.
    pub(super) file: String,
    /// Err: why it cannot be read.
    pub(super) text: Result<(String, Expanded), String>,
}

impl StoredFile {
    /// None: there is no such file.
    pub(super) fn beside(
        file: &Path,
        worker: &'static str,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Option<StoredFile> {
        let directory = file.parent().unwrap_or(Path::new(""));
        let path = directory.join("config").join(format!("{worker}.yaml"));
        let text = match read(&path) {
            Ok(bytes) if bytes.len() > FILE_BYTES_MAX => {
                Err(format!("has {} bytes, limit {FILE_BYTES_MAX}", bytes.len()))
            }
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error.to_string()),
        };
        let expanded = |source: String| {
            let expanded = expand(&source, variable);
            (source, expanded)
        };
        Some(StoredFile {
            worker,
            file: path.display().to_string(),
            text: text.map(expanded),
        })
    }
}
