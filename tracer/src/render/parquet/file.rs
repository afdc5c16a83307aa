//! One Parquet file, written row by row: rows are kept until there are enough for a group, then
//! encoded column by column.

use std::{io::Write, mem, sync::Arc};

use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type},
    errors::ParquetError as Inner,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};
use thiserror::Error;

use super::table::{Cell, Kind, Table};

/// Rows of a group: what is kept in memory.
const GROUP: usize = 32_768;
/// Or so many bytes.
const BYTES: usize = 8 << 20;

/// A file could not be written; the source says why.
#[derive(Debug, Error)]
#[error("writing Parquet")]
pub(crate) struct ParquetError(#[from] Inner);

/// A file of a table.
pub(crate) struct TableFile<W: Write + Send> {
    columns: Vec<Kept>,
    rows: usize,
    /// Bytes of these.
    bytes: usize,
    writer: SerializedFileWriter<W>,
}

/// The values of a column since the last group, and where there is none.
struct Kept {
    values: Values,
    /// 1: a value, 0: null.
    present: Vec<i16>,
}

enum Values {
    Text(Vec<ByteArray>),
    Integer(Vec<i64>),
    Flag(Vec<bool>),
}

impl<W: Write + Send> TableFile<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// The writer fails.
    pub(crate) fn new(out: W, table: &Table) -> Result<Self, ParquetError> {
        let columns: String = table
            .columns
            .iter()
            .map(|column| column.kind.declared(column.name))
            .collect();
        let schema = parse_message_type(&format!("message {} {{ {columns} }}", table.name))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_created_by(format!("tracer {}", env!("CARGO_PKG_VERSION")));
        let kept = |kind| Kept {
            values: match kind {
                Kind::Text => Values::Text(Vec::new()),
                Kind::Integer | Kind::Time => Values::Integer(Vec::new()),
                Kind::Flag => Values::Flag(Vec::new()),
            },
            present: Vec::new(),
        };
        Ok(Self {
            columns: table
                .columns
                .iter()
                .map(|column| kept(column.kind))
                .collect(),
            rows: 0,
            bytes: 0,
            writer: SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties.build()))?,
        })
    }

    /// Adds a row, its cells in the order of the table's columns.
    ///
    /// # Errors
    /// The writer fails.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) -> Result<(), ParquetError> {
        debug_assert_eq!(cells.len(), self.columns.len());
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            self.bytes += cell.bytes();
            column.add(cell);
        }
        self.rows += 1;
        if self.rows == GROUP || self.bytes >= BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Ends the file and gives its writer back.
    ///
    /// # Errors
    /// The writer fails.
    pub(crate) fn finish(mut self) -> Result<W, ParquetError> {
        self.flush()?;
        Ok(self.writer.into_inner()?)
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        self.bytes = 0;
        if mem::take(&mut self.rows) == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            column.write(&mut group)?;
        }
        group.close()?;
        Ok(())
    }
}

impl Kept {
    fn add(&mut self, cell: Cell) {
        let present = match (&mut self.values, cell) {
            (Values::Text(values), Cell::Text(Some(text))) => {
                values.push(ByteArray::from(text.into_bytes()));
                true
            }
            (Values::Integer(values), Cell::Integer(Some(value))) => {
                values.push(value);
                true
            }
            (Values::Integer(values), Cell::Time(Some(nanoseconds))) => {
                values.push((nanoseconds / 1000).cast_signed());
                true
            }
            (Values::Flag(values), Cell::Flag(Some(value))) => {
                values.push(value);
                true
            }
            _ => false,
        };
        self.present.push(i16::from(present));
    }

    fn write<W: Write + Send>(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), Inner> {
        let present = mem::take(&mut self.present);
        match &mut self.values {
            Values::Text(values) => write::<ByteArrayType, W>(group, &mem::take(values), &present),
            Values::Integer(values) => write::<Int64Type, W>(group, &mem::take(values), &present),
            Values::Flag(values) => write::<BoolType, W>(group, &mem::take(values), &present),
        }
    }
}

fn write<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    present: &[i16],
) -> Result<(), Inner> {
    let Some(mut column) = group.next_column()? else {
        return Ok(());
    };
    column
        .typed::<T>()
        .write_batch(values, Some(present), None)?;
    column.close()
}
