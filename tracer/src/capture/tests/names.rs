//! The names in the rows are the file's contract.

use super::{examples, file, read};
use crate::capture::rows;

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/capture-rows.jsonl"
);
/// A capture of format 1.0, as it was written then.
const FIRST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/capture-1.0.trc");

fn written() -> String {
    let mut text = String::new();
    for event in examples::rows() {
        let mut row = Vec::new();
        let kind = rows::write(&event, &mut row).unwrap();
        text += &format!("{kind} {}\n", String::from_utf8(row).unwrap());
    }
    text
}

#[test]
fn the_rows_have_the_names_that_they_always_had() {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(GOLDEN, written()).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    assert_eq!(
        written(),
        golden,
        "members may be added (with a default): then BLESS=1; none may go or change its name"
    );
}

#[test]
fn a_capture_of_the_first_version_is_read() {
    if std::env::var_os("BLESS").is_some() && !std::path::Path::new(FIRST).exists() {
        std::fs::write(FIRST, file(&[&examples::all()])).unwrap();
    }
    let bytes = std::fs::read(FIRST).unwrap();
    let read = read(&bytes).unwrap();
    assert!(read.damage.is_none(), "{:?}", read.damage);
    assert_eq!(read.events, examples::all());
}
