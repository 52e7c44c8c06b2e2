//! The scripts that run in Redis: changes, so that value, index, time and event are one step, in one
//! order for all hosts; the ends of items; members; what is done when a group has no items any more, or others
//! put its time ahead; cuts of a Redis that is full; and what its user may do.
//!
//! Texts and their names by SHA; what they are called with stands in `changes`, `ends`, `members` and `commands`.

use uuid::Uuid;

/// One of the scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    /// Makes changes.
    Change,
    /// Deletes what has had its time.
    Ends,
    /// Says with how many sockets a member is kept.
    Member,
    /// Removes what is kept of a group without items.
    Forget,
    /// Raises a group's time.
    Raise,
    /// Reads at a point that the channel tells.
    Cut,
    /// Says what the user may not do.
    Rights,
}

impl Script {
    pub(super) const ALL: [Script; 7] = [
        Script::Change,
        Script::Ends,
        Script::Member,
        Script::Forget,
        Script::Raise,
        Script::Cut,
        Script::Rights,
    ];
}

/// Their texts and names, made once.
pub(super) struct Scripts {
    loaded: [(String, String); Script::ALL.len()],
}

impl Scripts {
    /// The changes of each process go by a name of their own. So when Redis has forgotten the script
    /// nobody else loads it, and all that was sent fails until this process does: no change overtakes
    /// one that failed.
    pub(super) fn new(process: Uuid, database: u32) -> Scripts {
        let common = include_str!("lua/common.lua");
        let making = format!(
            "local database = {database}\n{common}\n{}",
            include_str!("lua/making.lua")
        );
        let loaded = Script::ALL.map(|script| {
            let text = match script {
                Script::Change => {
                    let own = include_str!("lua/change.lua");
                    format!("-- {process}\n{making}\n{own}")
                }
                Script::Ends => format!("{making}\n{}", include_str!("lua/ends.lua")),
                Script::Member => format!("{making}\n{}", include_str!("lua/member.lua")),
                Script::Forget => format!("{common}\n{}", include_str!("lua/forget.lua")),
                Script::Raise => format!("{common}\n{}", include_str!("lua/raise.lua")),
                Script::Cut => include_str!("lua/cut.lua").to_owned(),
                Script::Rights => include_str!("lua/rights.lua").to_owned(),
            };
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
    fn each_process_has_a_name_of_its_own_for_its_changes() {
        let [one, other] = [1, 2].map(|n| Scripts::new(Uuid::from_u128(n), 0));
        let sha = |scripts: &Scripts, script| scripts.sha(script).to_owned();
        assert_ne!(sha(&one, Script::Change), sha(&other, Script::Change));
        assert_eq!(sha(&one, Script::Forget), sha(&other, Script::Forget));
        assert_eq!(sha(&one, Script::Change).len(), 40);
        assert!(one.text(Script::Change).contains("function kinds.swap"));
        assert!(one.text(Script::Forget).contains("'gone'"));
    }
}
