//! nftables rules in a test's namespace.

use anyhow::Result;

use crate::netns::Netns;
use crate::programs;

/// Adds a rule such as `tcp dport 9001 reject` to a base chain on `hook` (`input` or `output`).
pub fn rule(netns: &Netns, hook: &str, rule: &str) -> Result<()> {
    let text = format!(
        "add table inet test\n\
         add chain inet test {hook} {{ type filter hook {hook} priority 0; }}\n\
         add rule inet test {hook} {rule}\n"
    );
    programs::output(netns.command("nft")?.arg(text)).map(drop)
}
