//! The duty of process 1: in a container that was started without an init, whatever a program of the
//! runbook leaves behind becomes a child of this process, and would stay as a zombie.

use std::collections::HashMap;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, getpid, waitpid};

/// How often zombies are looked for.
const EVERY: Duration = Duration::from_secs(1);
/// After so many looks a zombie is nobody's: the program's own children are waited for at once.
const LOOKS: u32 = 5;

/// Reaps, for as long as this process lives, where it is process 1.
pub(super) fn where_needed() {
    if !getpid().is_init() {
        return;
    }
    std::thread::spawn(|| {
        let mut seen: HashMap<i32, u32> = HashMap::new();
        loop {
            std::thread::sleep(EVERY);
            let zombies = zombies();
            seen.retain(|pid, _| zombies.contains(pid));
            for pid in zombies {
                let looks = seen.entry(pid).or_default();
                *looks += 1;
                if let (true, Some(pid)) = (*looks > LOOKS, Pid::from_raw(pid)) {
                    // One that is not ours after all is left alone by the system.
                    let _ = waitpid(Some(pid), WaitOptions::NOHANG);
                }
            }
        }
    });
}

/// The zombies whose parent is process 1.
fn zombies() -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
            is_orphaned_zombie(&stat).then_some(pid)
        })
        .collect()
}

/// Whether a line of `/proc/PID/stat` is that of a zombie whose parent is process 1. The name in it may hold
/// anything, also brackets.
fn is_orphaned_zombie(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with("Z 1 "))
}

#[cfg(test)]
mod tests {
    use super::is_orphaned_zombie;

    #[test]
    fn a_zombie_is_known_whatever_its_name() {
        assert!(is_orphaned_zombie("17 (sh) Z 1 17 17 0"));
        assert!(is_orphaned_zombie("17 (a) S 2 (b) Z 1 17 17 0"));
        assert!(!is_orphaned_zombie("17 (x Z 1 ) S 1 17 17 0"));
        assert!(!is_orphaned_zombie("17 (sh) Z 12 17 17 0") && !is_orphaned_zombie(""));
    }
}
