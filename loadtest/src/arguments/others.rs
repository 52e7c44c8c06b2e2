//! The flags of what is no load of a server: the program's own ceiling, and plots of files.

use std::path::PathBuf;

use clap::Args;

use crate::arguments::common::parse_value_bytes;
use crate::ceiling;

#[derive(Args)]
pub(crate) struct Ceiling {
    /// Sockets that are written to in turn.
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    subscribers: u32,
    /// Bytes of each value; the event around it adds 129.
    #[arg(long, visible_alias = "bytes", value_name = "BYTES", default_value = "154", value_parser = parse_value_bytes)]
    value_bytes: usize,
    /// Of each size of writes.
    #[arg(long, value_name = "S", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Write what was measured here as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl Ceiling {
    pub(crate) fn plan(&self) -> ceiling::Plan {
        ceiling::Plan {
            subscribers: self.subscribers,
            value_bytes: self.value_bytes,
            seconds: self.seconds,
        }
    }
}

#[derive(Args)]
pub(crate) struct Plot {
    /// The folder to draw into.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// JSON files. Of sweeps, each is a line of that name; of single runs, each is a point at that
    /// number of one line. Several files of one name are rounds: their medians are drawn.
    #[arg(value_name = "NAME=FILE", required = true, value_parser = parse_named)]
    pub(crate) files: Vec<(String, PathBuf)>,
    /// What the numbers of single runs count.
    #[arg(long, value_name = "NAME", default_value = "workers")]
    pub(crate) axis: String,
}

fn parse_named(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("must be NAME=FILE")?;
    Ok((name.to_owned(), file.into()))
}
