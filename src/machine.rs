//! What the kernel tells of control groups and memory, below one root so that a test can lay out another
//! machine.
//!
//! Uses nothing of ours. Judges nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The control group of this process, for one kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What of the cores it may use.
    Cpu,
    /// What it may have.
    Memory,
}

/// The texts of one file of our control group and of all above it, ours first. `old` is its name in the
/// first version of control groups.
pub fn group_files(root: &Path, group: Group, new: &str, old: &str) -> Vec<String> {
    let own = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let controller = match group {
        Group::Cpu => "cpu",
        Group::Memory => "memory",
    };
    let mut texts = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup".to_owned(), new),
            _ if controllers.split(',').any(|name| name == controller) => {
                (format!("sys/fs/cgroup/{controllers}"), old)
            }
            _ => continue,
        };
        // In a container the path may be that of the host, and the mount our group alone.
        for above in Path::new(path.trim_start_matches('/')).ancestors() {
            let path = root.join(&mount).join(above).join(file);
            texts.extend(std::fs::read_to_string(path));
        }
    }
    texts
}

/// What our control group may have; `None`: it has no limit.
pub fn memory_of_group(root: &Path) -> Option<u64> {
    let files = group_files(root, Group::Memory, "memory.max", "memory.limit_in_bytes");
    let limits = files.iter().filter_map(|text| text.trim().parse().ok());
    limits.min()
}

/// A line of `/proc/meminfo`, in bytes.
pub fn meminfo(root: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

/// What this process could have of memory: what its control group may, or what there is.
pub fn memory(root: &Path) -> Option<u64> {
    // A group without a limit has one beyond all that there is, in the first version.
    let of_machine = meminfo(root, "MemTotal:");
    let of_group = memory_of_group(root);
    [of_group, of_machine].into_iter().flatten().min()
}

/// What of this process is in memory, read again and again.
#[derive(Debug)]
pub struct Resident {
    statm: File,
    page_bytes: usize,
}

impl Resident {
    /// `None`: the kernel does not tell.
    pub fn open() -> Option<Resident> {
        Some(Resident {
            statm: File::open("/proc/self/statm").ok()?,
            page_bytes: rustix::param::page_size(),
        })
    }

    /// How many bytes there are now.
    pub fn bytes(&self) -> Option<usize> {
        let mut text = [0; 128];
        let len = self.statm.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..len]).ok()?;
        let pages: usize = text.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * self.page_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files, gone with the test.
    struct Tree(std::path::PathBuf);

    impl Tree {
        fn with(name: &str, files: &[(&str, &str)]) -> Tree {
            let name = format!("iii-stream-{name}-{}", std::process::id());
            let root = std::env::temp_dir().join(name);
            for (path, text) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Tree(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       2048 kB\nMemFree: 5 kB\n");

    #[test]
    fn the_smallest_limit_of_all_groups_above_holds_and_without_one_that_of_the_machine() {
        let new = Tree::with(
            "groups",
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/a/b\n"),
                ("sys/fs/cgroup/a/b/memory.max", "max\n"),
                ("sys/fs/cgroup/a/memory.max", "1048576\n"),
            ],
        );
        assert_eq!(memory(&new.0), Some(1 << 20));
        let old = Tree::with(
            "old-groups",
            &[
                MEMINFO,
                ("proc/self/cgroup", "3:cpu,cpuacct:/x\n4:memory:/docker/1\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "524288\n"),
            ],
        );
        assert_eq!(memory(&old.0), Some(1 << 19));
        let endless = Tree::with(
            "endless",
            &[
                MEMINFO,
                ("proc/self/cgroup", "4:memory:/\n"),
                (
                    "sys/fs/cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
            ],
        );
        assert_eq!(memory(&endless.0), Some(2 << 20));
        assert_eq!(memory(Path::new("/nowhere")), None);
    }

    #[test]
    fn what_is_resident_grows_with_what_is_written() {
        let resident = Resident::open().unwrap();
        let before = resident.bytes().unwrap();
        let block = vec![1_u8; 64 << 20];
        let after = resident.bytes().unwrap();
        assert!(after > before + (32 << 20), "{before} {after}");
        drop(block);
    }
}
