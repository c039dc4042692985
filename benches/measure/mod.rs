//! What the benchmarks share: parts that run in a process of their own, and their memory.

use std::fs;
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

/// Runs this program once more with these arguments, so that its peak memory is its alone, and reads
/// the figures that it prints.
pub(crate) fn part<T: DeserializeOwned>(args: &[&str]) -> Result<T, Box<dyn std::error::Error>> {
    let output = Command::new(std::env::current_exe()?).args(args).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the part `{}` failed", args.join(" ")).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The most memory that this process ever held, in KiB.
pub(crate) fn peak() -> Result<f64, Box<dyn std::error::Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
