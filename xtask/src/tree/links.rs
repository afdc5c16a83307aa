//! Absolute symbolic links of unpacked packages lead out of the tree, to the host's files or to
//! none: Debian 12's `/sbin/ip` is one. They are made to stay inside.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Turns each absolute link whose target is in the tree into a relative one. Others stay as they
/// are: what they name was left out of the tree, and is the host's.
pub(super) fn keep_inside(tree: &Path) -> Result<()> {
    let mut folders = vec![tree.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
        for entry in entries {
            let path = entry
                .with_context(|| format!("listing {}", folder.display()))?
                .path();
            if path.is_symlink() {
                relink(tree, &path).with_context(|| format!("relinking {}", path.display()))?;
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(())
}

fn relink(tree: &Path, link: &Path) -> Result<()> {
    let target = fs::read_link(link)?;
    let Ok(target) = target.strip_prefix("/") else {
        return Ok(());
    };
    if tree.join(target).symlink_metadata().is_err() {
        return Ok(());
    }
    let depth = link.strip_prefix(tree)?.components().count() - 1;
    let up: PathBuf = std::iter::repeat_n("..", depth).collect();
    fs::remove_file(link)?;
    symlink(up.join(target), link)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_link_leads_to_the_trees_own_file_and_a_stray_one_stays() -> Result<()> {
        let tree = std::env::temp_dir().join(format!("xtask-links-{}", std::process::id()));
        fs::create_dir_all(tree.join("usr/sbin"))?;
        fs::create_dir_all(tree.join("bin"))?;
        fs::write(tree.join("bin/ip"), "")?;
        symlink("/bin/ip", tree.join("usr/sbin/ip"))?;
        symlink("/left/out", tree.join("usr/sbin/other"))?;

        keep_inside(&tree)?;
        let ip = fs::read_link(tree.join("usr/sbin/ip"))?;
        let other = fs::read_link(tree.join("usr/sbin/other"))?;
        fs::remove_dir_all(&tree)?;

        assert_eq!(ip, Path::new("../../bin/ip"));
        assert_eq!(other, Path::new("/left/out"));
        Ok(())
    }
}
