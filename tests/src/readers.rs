//! Programs that read Parquet tables: DuckDB, and chDB, which is ClickHouse. Queries are those of
//! the documentation.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::programs;

/// Prints a query's rows as JSON lists.
const ASK: &str = r#"
import json, sys
engine, query = sys.argv[1:]
if engine == "duckdb":
    import duckdb
    rows = [list(row) for row in duckdb.sql(query).fetchall()]
else:
    import chdb
    lines = str(chdb.query(query, "JSONCompactEachRow")).splitlines()
    rows = [json.loads(line) for line in lines if line]
print(json.dumps(rows, default=str))
"#;

/// Their Python, if setup could make it.
pub fn python() -> Option<PathBuf> {
    let python = programs::workspace().join("target/readers/bin/python3");
    python.is_file().then_some(python)
}

/// The rows that `engine` (`duckdb` or `chdb`) gives for a query.
pub fn ask(engine: &str, query: &str) -> Result<Vec<Vec<Value>>> {
    let python = python().context("no target/readers: cargo xtask setup")?;
    let answer = programs::output(Command::new(python).args(["-c", ASK, engine, query]))?;
    serde_json::from_str(&answer).with_context(|| format!("{engine} printed {answer}"))
}

/// The query of `docs/parquet.md` below this heading, of the tables below `folder`.
pub fn documented(heading: &str, folder: &Path) -> Result<String> {
    let path = programs::workspace().join("docs/parquet.md");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let section = text.split(&format!("### {heading}\n")).nth(1);
    let query = section.and_then(|section| section.split("```sql\n").nth(1)?.split("```").next());
    let query =
        query.with_context(|| format!("no query below {heading:?} in {}", path.display()))?;
    Ok(query
        .trim()
        .trim_end_matches(';')
        .replace("'fleet/", &format!("'{}/", folder.display()))
        // Spark's.
        .replace("`fleet/", &format!("`{}/", folder.display())))
}
