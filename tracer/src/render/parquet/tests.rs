//! The documentation names every column, and what is written can be read.

use std::{fs, path::PathBuf};

use parquet::file::reader::{FileReader as _, SerializedFileReader};

use super::{
    table::{Column, Kind},
    *,
};

fn named(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Integer => "integer",
        Kind::Time => "time",
        Kind::Flag => "boolean",
    }
}

fn documented(table: &Table) -> String {
    let columns: String = table
        .columns
        .iter()
        .map(|column| {
            format!(
                "| `{}` | {} | {} |\n",
                column.name,
                named(column.kind),
                column.meaning
            )
        })
        .collect();
    format!(
        "## `{}`: {}\n\n| column | type | |\n|---|---|---|\n{columns}",
        table.name, table.row
    )
}

#[test]
fn the_documentation_has_every_column() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "docs", "parquet.md"]
        .iter()
        .collect();
    let text = fs::read_to_string(&path).expect("docs/parquet.md");
    let (words, _) = text.split_once("\n## `verdicts`").expect("the first table");
    let tables: Vec<String> = [&VERDICTS, &ATTEMPTS, &CONNECTIONS].map(documented).into();
    let wanted = format!("{words}\n{}", tables.join("\n"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &wanted).expect("docs/parquet.md is writable");
        return;
    }
    assert_eq!(
        text, wanted,
        "if this is what it should say, BLESS=1 cargo test -p tracer"
    );
}

#[test]
fn rows_come_back_as_they_were_put_in_over_several_groups() {
    static TABLE: Table = Table {
        name: "numbers",
        row: "",
        columns: &[
            Column {
                name: "text",
                kind: Kind::Text,
                meaning: "",
            },
            Column {
                name: "number",
                kind: Kind::Integer,
                meaning: "",
            },
            Column {
                name: "at",
                kind: Kind::Time,
                meaning: "",
            },
            Column {
                name: "odd",
                kind: Kind::Flag,
                meaning: "",
            },
        ],
    };
    const ROWS: u64 = 70_000;
    let mut file = TableFile::new(Vec::new(), &TABLE).expect("begun");
    for n in 0..ROWS {
        let number = n.cast_signed();
        file.row(vec![
            Cell::Text((n % 3 > 0).then(|| format!("row {n}"))),
            Cell::Integer((n % 5 > 0).then_some(number)),
            Cell::Time(Some(n * 1000)),
            Cell::Flag((n % 7 > 0).then_some(n % 2 == 1)),
        ])
        .expect("written");
    }
    let bytes = bytes::Bytes::from(file.finish().expect("ended"));
    let reader = SerializedFileReader::new(bytes).expect("a Parquet file");
    assert!(reader.metadata().num_row_groups() > 1);
    let mut seen = 0;
    for (n, row) in (0..ROWS).zip(reader.get_row_iter(None).expect("rows")) {
        let json = row.expect("a row").to_string();
        let null = |there: bool, value: String| if there { value } else { "null".to_owned() };
        assert!(
            json.contains(&null(n % 3 > 0, format!("row {n}"))),
            "{json}"
        );
        seen += 1;
    }
    assert_eq!(seen, ROWS);
}
