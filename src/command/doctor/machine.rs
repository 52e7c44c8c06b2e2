//! What the kernel tells of this machine, below one root so that a test can lay out another one.
//!
//! Judges nothing.

use std::path::PathBuf;

use iii_stream::machine::{group_files, meminfo, memory_of_group};

pub(super) use iii_stream::machine::Group;

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    root: PathBuf,
}

impl Machine {
    pub(super) fn here() -> Machine {
        Machine {
            root: PathBuf::from("/"),
        }
    }

    #[cfg(test)]
    pub(super) fn at(root: PathBuf) -> Machine {
        Machine { root }
    }

    /// A file's text, as `proc/sys/net/core/somaxconn`. None: it is not there, or not for us.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    /// The numbers of a file, up to what is none.
    pub(super) fn numbers(&self, path: &str) -> Vec<u64> {
        let text = self.text(path).unwrap_or_default();
        text.split_whitespace()
            .map_while(|word| word.parse().ok())
            .collect()
    }

    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.numbers(path).first().copied()
    }

    /// A counter of `/proc/net/netstat` or `/proc/net/snmp`, which have lines of names above lines of values.
    pub(super) fn counter(&self, path: &str, table: &str, name: &str) -> Option<u64> {
        let text = self.text(path)?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(table));
        let (names, values) = (lines.next()?, lines.next()?);
        let at = names.split_whitespace().position(|found| found == name)?;
        values.split_whitespace().nth(at)?.parse().ok()
    }

    /// The texts of one file of our control group and of all above it, ours first. `old` is its name in
    /// the first version of control groups.
    pub(super) fn group_files(&self, group: Group, new: &str, old: &str) -> Vec<String> {
        group_files(&self.root, group, new, old)
    }

    /// What our control group may have of memory; `None`: it has no limit.
    pub(super) fn memory_of_group(&self) -> Option<u64> {
        memory_of_group(&self.root)
    }

    /// A line of `/proc/meminfo`, in bytes.
    pub(super) fn meminfo(&self, name: &str) -> Option<u64> {
        meminfo(&self.root, name)
    }
}

/// A tree of files for a test, gone with it.
#[cfg(test)]
pub(super) struct Tree(PathBuf);

#[cfg(test)]
impl Tree {
    pub(super) fn with(files: &[(&str, &str)]) -> Tree {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("iii-stream-machine-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::fs::create_dir_all(&root).unwrap();
        Tree(root)
    }

    pub(super) fn machine(&self) -> Machine {
        Machine::at(self.0.clone())
    }
}

#[cfg(test)]
impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_of_both_versions_are_read_up_to_the_top() {
        let tree = Tree::with(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "max 100000"),
            ("sys/fs/cgroup/a/cpu.max", "150000 100000"),
        ]);
        let files = tree.machine().group_files(Group::Cpu, "cpu.max", "old");
        assert_eq!(files, ["max 100000", "150000 100000"]);
        let tree = Tree::with(&[
            ("proc/self/cgroup", "3:cpu,cpuacct:/x\n4:memory:/x\n"),
            ("sys/fs/cgroup/cpu,cpuacct/x/old", "7"),
        ]);
        assert_eq!(tree.machine().group_files(Group::Cpu, "new", "old"), ["7"]);
        assert!(
            tree.machine()
                .group_files(Group::Memory, "new", "old")
                .is_empty()
        );
    }

    #[test]
    fn a_counter_stands_below_its_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 5 7\nIpExt: A\nIpExt: 1\n";
        let tree = Tree::with(&[("proc/net/netstat", text)]);
        let drops = |name| tree.machine().counter("proc/net/netstat", "TcpExt:", name);
        assert_eq!((drops("ListenDrops"), drops("None")), (Some(7), None));
    }
}
