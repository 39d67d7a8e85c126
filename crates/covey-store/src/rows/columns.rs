//! A row of either database, read column by column.

use std::error::Error;
use std::sync::Arc;

use covey_core::id::{DeviceId, DeviceKey, OrgId, RecordNumber, ResultId, Sn, TaskId, UnixMs};
use covey_core::webhook::EndpointId;
use rusqlite::types::ValueRef;
use tokio_postgres::types::{FromSql, Type, accepts};
use uuid::Uuid;

/// Why a row cannot be read: a column holds what no version of this program
/// wrote there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damaged {
    /// Another type than expected, says SQLite.
    #[error("a column cannot be read: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The same, says PostgreSQL; or it refused the statement.
    #[error("a column cannot be read: {0}")]
    Postgres(#[from] tokio_postgres::Error),
    /// A value out of its range.
    #[error("column {0} holds no {1}")]
    Value(usize, &'static str),
}

impl From<Damaged> for rusqlite::Error {
    fn from(damaged: Damaged) -> Self {
        match damaged {
            Damaged::Sqlite(error) => error,
            Damaged::Value(column, _) => {
                Self::FromSqlConversionFailure(column, rusqlite::types::Type::Null, Box::new(damaged))
            }
            other => Self::ToSqlConversionFailure(Box::new(other)),
        }
    }
}

/// What reading a row comes to.
pub(crate) type Read<T> = Result<T, Damaged>;

/// A row of either database. Integers of all widths are one kind.
pub(crate) trait Columns {
    fn integer(&self, column: usize) -> Read<Option<i64>>;
    fn flag(&self, column: usize) -> Read<Option<bool>>;
    fn real(&self, column: usize) -> Read<Option<f64>>;
    fn text(&self, column: usize) -> Read<Option<&str>>;
    fn bytes(&self, column: usize) -> Read<Option<&[u8]>>;
    fn uuid(&self, column: usize) -> Read<Option<Uuid>>;
}

impl Columns for rusqlite::Row<'_> {
    fn integer(&self, column: usize) -> Read<Option<i64>> {
        Ok(self.get(column)?)
    }

    fn flag(&self, column: usize) -> Read<Option<bool>> {
        Ok(self.get(column)?)
    }

    fn real(&self, column: usize) -> Read<Option<f64>> {
        match self.get_ref(column)? {
            ValueRef::Null => Ok(None),
            // A sum of whole numbers is a whole number.
            ValueRef::Integer(number) => Ok(Some(number as f64)),
            ValueRef::Real(number) => Ok(Some(number)),
            _ => Err(Damaged::Value(column, "number")),
        }
    }

    fn text(&self, column: usize) -> Read<Option<&str>> {
        self.get_ref(column)?.as_str_or_null().map_err(|_| Damaged::Value(column, "text"))
    }

    fn bytes(&self, column: usize) -> Read<Option<&[u8]>> {
        self.get_ref(column)?.as_blob_or_null().map_err(|_| Damaged::Value(column, "bytes"))
    }

    fn uuid(&self, column: usize) -> Read<Option<Uuid>> {
        let bytes = self.bytes(column)?.map(Uuid::from_slice);
        bytes.transpose().map_err(|_| Damaged::Value(column, "id"))
    }
}

impl Columns for tokio_postgres::Row {
    fn integer(&self, column: usize) -> Read<Option<i64>> {
        Ok(self.try_get::<_, Option<Integer>>(column)?.map(|integer| integer.0))
    }

    fn flag(&self, column: usize) -> Read<Option<bool>> {
        Ok(self.try_get(column)?)
    }

    fn real(&self, column: usize) -> Read<Option<f64>> {
        Ok(self.try_get(column)?)
    }

    fn text(&self, column: usize) -> Read<Option<&str>> {
        Ok(self.try_get::<_, Option<Text<'_>>>(column)?.map(|text| text.0))
    }

    fn bytes(&self, column: usize) -> Read<Option<&[u8]>> {
        Ok(self.try_get(column)?)
    }

    fn uuid(&self, column: usize) -> Read<Option<Uuid>> {
        Ok(self.try_get(column)?)
    }
}

/// An integer of any width.
struct Integer(i64);

impl<'a> FromSql<'a> for Integer {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(match *kind {
            Type::INT2 => i16::from_sql(kind, raw)?.into(),
            Type::INT4 => i32::from_sql(kind, raw)?.into(),
            _ => i64::from_sql(kind, raw)?,
        }))
    }

    accepts!(INT2, INT4, INT8);
}

/// Text; that of results is stored as bytes, because it may hold a NUL.
struct Text<'a>(&'a str);

impl<'a> FromSql<'a> for Text<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?))
    }

    accepts!(TEXT, BYTEA);
}

/// What a column is read as.
pub(crate) trait FromColumn<'r>: Sized {
    fn from_column(row: &'r dyn Columns, column: usize) -> Read<Self>;
}

/// A column of a row.
pub(crate) fn get<'r, T: FromColumn<'r>>(row: &'r dyn Columns, column: usize) -> Read<T> {
    T::from_column(row, column)
}

/// A number of a narrower type than the column's.
pub(crate) fn number<T: TryFrom<i64>>(row: &dyn Columns, column: usize) -> Read<T> {
    T::try_from(get(row, column)?).map_err(|_| Damaged::Value(column, "number in range"))
}

/// What `read` makes of each row.
pub(crate) fn each<T>(found: &[impl Columns], read: fn(&dyn Columns) -> Read<T>) -> Read<Vec<T>> {
    found.iter().map(|row| read(row)).collect()
}

/// The first column of a row alone.
pub(crate) fn first<T: for<'r> FromColumn<'r>>(row: &dyn Columns) -> Read<T> {
    get(row, 0)
}

/// Types that a column is read as, and the same where there may be nothing.
macro_rules! from_column {
    ($($kind:ty: |$row:ident, $column:ident| $read:expr;)*) => {$(
        impl<'r> FromColumn<'r> for Option<$kind> {
            fn from_column($row: &'r dyn Columns, $column: usize) -> Read<Self> {
                $read
            }
        }

        impl<'r> FromColumn<'r> for $kind {
            fn from_column(row: &'r dyn Columns, column: usize) -> Read<Self> {
                get::<Option<Self>>(row, column)?.ok_or(Damaged::Value(column, "value"))
            }
        }
    )*};
}

from_column! {
    i64: |row, column| row.integer(column);
    bool: |row, column| row.flag(column);
    f64: |row, column| row.real(column);
    &'r str: |row, column| row.text(column);
    String: |row, column| Ok(row.text(column)?.map(ToOwned::to_owned));
    Arc<str>: |row, column| Ok(row.text(column)?.map(Arc::from));
    &'r [u8]: |row, column| row.bytes(column);
    Uuid: |row, column| row.uuid(column);
    Sn: |row, column| row.text(column)?.map(Sn::parse).transpose()
        .map_err(|_| Damaged::Value(column, "serial number"));
    TaskId: |row, column| Ok(row.uuid(column)?.map(TaskId));
    OrgId: |row, column| Ok(row.integer(column)?.map(OrgId));
    DeviceKey: |row, column| Ok(row.integer(column)?.map(DeviceKey));
    DeviceId: |row, column| Ok(row.integer(column)?.map(DeviceId));
    UnixMs: |row, column| Ok(row.integer(column)?.map(UnixMs));
    RecordNumber: |row, column| Ok(row.integer(column)?.map(RecordNumber));
    ResultId: |row, column| Ok(row.integer(column)?.map(ResultId));
    EndpointId: |row, column| Ok(row.integer(column)?.map(EndpointId));
}
