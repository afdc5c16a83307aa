//! A folder that nginx could not write a file to: the answer to [`Question::Folder`].
//!
//! [`Question::Folder`]: crate::event::Question::Folder

use anyhow::{Context as _, Result};

use super::{accounts::Accounts, path_walk::walk};
use crate::{
    event::fact::FolderView,
    process::{Status, bounded},
};

/// Looks as a worker of this status would, with the process whose `/proc` entries count for it.
///
/// # Errors
/// The worker is gone, or its root cannot be looked into.
pub(super) fn view((worker, status): (u32, &Status), path: &str) -> Result<FolderView> {
    let accounts = Accounts::of(worker);
    let (owned, user, ids) = (path.to_owned(), status.clone(), accounts.ids().cloned());
    let looked = bounded(worker, move || {
        let found = walk(worker, &owned, &user, ids.as_ref());
        let place = found.as_ref().ok().and_then(|found| found.place.as_ref());
        let room = place.and_then(|place| place.room().ok());
        Ok((found, room))
    });
    let (found, room) = looked.context("look at the folder")?;
    let found = found?;
    let shown = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    Ok(FolderView {
        folder: found.file.map(|step| step.inode(&accounts)),
        missing: found.missing.map(shown),
        blocked: found.blocked.map(|step| step.inode(&accounts)),
        room,
        worker_uid: status.uid,
        worker_user: accounts.user(status.uid),
    })
}
