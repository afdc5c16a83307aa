//! Relative links and anchors of the documents lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::markdown::{self, Kind};
use super::{Finding, Text, root};

/// The documents, and folders of them.
pub(super) const DOCUMENTS: [&str; 5] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs",
];

fn dead(documents: &[Text], root: &Path) -> Result<Vec<Finding>> {
    let anchors: BTreeMap<&str, BTreeSet<String>> = documents
        .iter()
        .map(|document| (document.file.as_str(), anchors(&document.text)))
        .collect();
    let mut found = Vec::new();
    for document in documents {
        for part in markdown::parts(&document.text) {
            let Kind::Link(link) = part.kind else {
                continue;
            };
            // The network is not asked.
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() {
                document.file.clone()
            } else {
                resolved(&document.file, path)
            };
            let what = if !root.join(&target).exists() {
                format!("`{link}` leads to {target}, which is not there")
            } else if !anchor.is_empty()
                && let Some(known) = anchors.get(target.as_str())
                && !known.contains(anchor)
            {
                format!("`{link}`: {target} has no heading that makes #{anchor}")
            } else {
                continue;
            };
            found.push(Finding {
                file: document.file.clone(),
                line: part.line,
                what,
            });
        }
    }
    Ok(found)
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in markdown::parts(text) {
        if let Kind::Anchor(anchor) = part.kind {
            // GitHub numbers those that it has met.
            let again = (1..).map(|number| format!("{anchor}-{number}"));
            let free = std::iter::once(anchor.clone())
                .chain(again)
                .find(|name| !found.contains(name));
            found.extend(free);
        }
    }
    found
}

/// `../README.md` in `docs/safety.md` is `README.md`.
fn resolved(file: &str, link: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::{assert_none, files};
    use super::*;

    #[test]
    fn links_of_the_documents_lead_somewhere() -> Result<()> {
        let documents = files(&DOCUMENTS, "md")?;
        assert!(documents.len() > 5, "{} documents", documents.len());
        assert_none(&dead(&documents, &root())?);
        Ok(())
    }

    #[test]
    fn a_link_to_nothing_is_found_and_so_is_an_anchor() -> Result<()> {
        let document = |file: &str, text: &str| Text {
            file: file.to_owned(),
            text: text.to_owned(),
        };
        let documents = [
            document("README.md", "# One\n[a](docs/no.md) [b](#one)\n[c](#two)\n"),
            document(
                "docs/safety.md",
                "# One\n# One\n[a](../README.md#one) [b](#one-1)\n\n[c](../README.md#two)\n",
            ),
        ];
        let found: Vec<_> = dead(&documents, &root())?
            .into_iter()
            .map(|one| (one.file, one.line))
            .collect();
        let expected = [("README.md", 2), ("README.md", 3), ("docs/safety.md", 5)]
            .map(|(file, line)| (file.to_owned(), line));
        assert_eq!(found, expected);
        Ok(())
    }
}
