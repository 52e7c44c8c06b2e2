//! `health`: asks the stream port for `/health`, for whoever watches over a container.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use super::client::get;
use super::output::say;
use super::place::Looks;

/// One line. Exit code 1: nobody answers, or says that not all is well.
pub(crate) fn health(looks: &Looks, within: Duration) -> anyhow::Result<ExitCode> {
    let place = looks.for_subscribers()?;
    let (code, words, body) = get(&place, "/health", within)?;
    let shown = place.shown();
    if code != 200 {
        bail!("{shown} answers {code} {words}: {body}");
    }
    say(&format!("ok: {shown} answers\n"))?;
    Ok(ExitCode::SUCCESS)
}
