//! The catalogue against its two documents.

use super::super::catalogue::all;

#[test]
fn ids_are_unique_and_in_kebab_case() {
    let mut ids: Vec<&str> = all().iter().map(|cause| cause.id).collect();
    assert!(
        ids.iter()
            .all(|id| id.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
    );
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all().len());
}
