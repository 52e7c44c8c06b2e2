//! The scripts that run in Redis: one for each change, so that value, index, time and event are one
//! step, in one order for all hosts.
//!
//! Texts and their names by SHA; what they are called with stands in `commands`.

/// One of the scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Set,
    Delete,
    /// Set, if the value is still what it was.
    Swap,
    Send,
    /// Removes what is kept of a group without items.
    Forget,
}

impl Script {
    pub(super) const ALL: [Script; 5] = [
        Script::Set,
        Script::Delete,
        Script::Swap,
        Script::Send,
        Script::Forget,
    ];
}

/// Their texts and names, made once.
pub(super) struct Scripts {
    loaded: [(String, String); Script::ALL.len()],
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        let common = include_str!("lua/common.lua");
        let loaded = Script::ALL.map(|script| {
            let own = match script {
                Script::Set => include_str!("lua/set.lua"),
                Script::Delete => include_str!("lua/delete.lua"),
                Script::Swap => include_str!("lua/swap.lua"),
                Script::Send => include_str!("lua/send.lua"),
                Script::Forget => include_str!("lua/forget.lua"),
            };
            let text = format!("{common}\n{own}");
            let sha = redis::Script::new(&text).get_hash().to_owned();
            (text, sha)
        });
        Scripts { loaded }
    }

    /// As `SCRIPT LOAD` takes it.
    pub(super) fn text(&self, script: Script) -> &str {
        &self.loaded[script as usize].0
    }

    /// As `EVALSHA` takes it.
    pub(super) fn sha(&self, script: Script) -> &str {
        &self.loaded[script as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_has_a_name_of_its_own() {
        let scripts = Scripts::new();
        let mut shas = Script::ALL.map(|script| scripts.sha(script).to_owned());
        shas.sort_unstable();
        assert!(shas.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(shas.iter().all(|sha| sha.len() == 40));
        assert!(scripts.text(Script::Swap).contains("is_there"));
    }
}
