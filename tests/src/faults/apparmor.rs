//! An AppArmor profile around nginx that denies it TCP over IPv6, when it connects.
//!
//! A profile of parsers before 4.0 denies a family altogether, `socket()` included: `cargo xtask
//! test --vm` puts Debian 13's into its guests, with the libraries it needs.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::folder::Folder;
use crate::programs;

const INTERFACE: &str = "/sys/kernel/security/apparmor/.load";
/// What a process becomes at its next exec.
const AT_EXEC: &str = "/proc/self/attr/apparmor/exec";

/// The parser's folder.
fn tools() -> PathBuf {
    programs::root().join("apparmor")
}

/// Why no profile can be made here that denies connect() alone, or `None` if one can.
pub fn missing() -> Option<String> {
    if !Path::new(INTERFACE).exists() {
        return Some("AppArmor is not enabled here".to_owned());
    }
    let parser = tools().join("apparmor_parser");
    let none = "no apparmor_parser of 4.0 or later, as the guests have";
    (!parser.is_file()).then(|| none.to_owned())
}

/// Loads the profile, and makes `command` run under it.
pub fn confine(command: &mut Command) -> Result<()> {
    let tools = tools();
    let folder = Folder::new()?;
    let policy = folder.join("policy");
    let abi = tools.join("abi/4.0");
    let text = format!(
        "abi \"{}\",\nprofile tracer-test {{\n  file, capability, signal, ptrace, network,\n  \
         deny network (connect) inet6 stream,\n}}\n",
        abi.display()
    );
    fs::write(&policy, text).with_context(|| format!("writing {}", policy.display()))?;
    let mut parser = Command::new(tools.join("ld-linux-x86-64.so.2"));
    parser.arg("--library-path").arg(&tools);
    parser.arg(tools.join("apparmor_parser"));
    parser.args(["--replace", "--skip-cache"]).arg(&policy);
    programs::output(&mut parser).context("loading the AppArmor profile")?;
    // SAFETY: between fork and exec one small file is written.
    unsafe {
        command.pre_exec(|| fs::write(AT_EXEC, "exec tracer-test"));
    }
    Ok(())
}
