//! A row as bytes, alike on both sides: a tuple of PostgreSQL's binary COPY
//! format (PostgreSQL "COPY", "Binary Format"). Rows of SQLite are put into it;
//! rows of PostgreSQL are read back in it.

use std::cmp::Ordering;

use rusqlite::Row;
use rusqlite::types::{Value, ValueRef};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::migrate::tables::{Kind, Table};

/// What comes before the first tuple: signature, flags, length of an extension.
pub(super) const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What comes after the last one.
pub(super) const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Why a value cannot be moved: its column, and what is wrong.
pub(super) type BadValue = (String, &'static str);

/// Appends a row of SQLite.
pub(super) fn encode(table: &Table, row: &Row<'_>, into: &mut Vec<u8>) -> Result<(), BadValue> {
    into.extend(u16::try_from(table.columns.len()).unwrap_or(0).to_be_bytes());
    for (place, column) in table.columns.iter().enumerate() {
        let value = row.get_ref(place).map_err(|_| (column.name.clone(), "cannot be read"))?;
        encode_value(column.kind, value, into).map_err(|problem| (column.name.clone(), problem))?;
    }
    Ok(())
}

fn encode_value(kind: Kind, value: ValueRef<'_>, into: &mut Vec<u8>) -> Result<(), &'static str> {
    let out_of_range = "is out of range";
    match (kind, value) {
        (_, ValueRef::Null) => into.extend((-1_i32).to_be_bytes()),
        (Kind::Int8, ValueRef::Integer(number)) => field(&number.to_be_bytes(), into)?,
        (Kind::Int4, ValueRef::Integer(number)) => {
            field(&i32::try_from(number).map_err(|_| out_of_range)?.to_be_bytes(), into)?;
        }
        (Kind::Int2, ValueRef::Integer(number)) => {
            field(&i16::try_from(number).map_err(|_| out_of_range)?.to_be_bytes(), into)?;
        }
        (Kind::Bool, ValueRef::Integer(number @ (0 | 1))) => field(&[u8::from(number == 1)], into)?,
        (Kind::Text, ValueRef::Text(text)) => {
            if std::str::from_utf8(text).is_err() {
                return Err("is no UTF-8");
            }
            if text.contains(&0) {
                return Err("holds a NUL character, which PostgreSQL cannot store in text");
            }
            field(text, into)?;
        }
        (Kind::Bytes, ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => field(bytes, into)?,
        (Kind::Uuid, ValueRef::Blob(bytes)) if bytes.len() == 16 => field(bytes, into)?,
        _ => return Err("holds a value of another type"),
    }
    Ok(())
}

fn field(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), &'static str> {
    into.extend(i32::try_from(bytes.len()).map_err(|_| "is too long")?.to_be_bytes());
    into.extend(bytes);
    Ok(())
}

/// The length of the tuple at the beginning of these bytes; none if it is not
/// there whole, zero at the trailer.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let count = i16::from_be_bytes(*bytes.first_chunk()?);
    let mut end = 2;
    for _ in 0..count.max(0) {
        let size = i32::from_be_bytes(*bytes.get(end..)?.first_chunk()?);
        end += 4 + usize::try_from(size).unwrap_or(0);
    }
    if count < 0 {
        return Some(0);
    }
    (end <= bytes.len()).then_some(end)
}

/// The fields of a tuple; none stands for NULL.
pub(super) fn fields(tuple: &[u8]) -> Vec<Option<&[u8]>> {
    let mut rest = tuple.get(2..).unwrap_or_default();
    let mut fields = Vec::new();
    while let Some((size, after)) = rest.split_first_chunk() {
        let size = i32::from_be_bytes(*size);
        let (field, after) =
            after.split_at_checked(usize::try_from(size).unwrap_or(0)).unwrap_or((after, &[]));
        fields.push((size >= 0).then_some(field));
        rest = after;
    }
    fields
}

/// What tells a row from the others of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(Vec<Vec<u8>>);

impl Key {
    pub(super) fn of(table: &Table, tuple: &[u8]) -> Self {
        let fields = fields(tuple);
        let field = |place: &usize| fields.get(*place).copied().flatten().unwrap_or_default().to_vec();
        Self(table.key.iter().map(field).collect())
    }

    /// As it is kept in the target while the migration is unfinished.
    pub(super) fn stored(&self) -> String {
        self.0.iter().map(|field| hex(field)).collect::<Vec<_>>().join(".")
    }

    /// What [`stored`](Self::stored) gave.
    pub(super) fn from_stored(table: &Table, text: &str) -> Option<Self> {
        let fields: Vec<_> = text.split('.').map(from_hex).collect::<Option<_>>()?;
        (fields.len() == table.key.len()).then_some(Self(fields))
    }

    fn parts<'k>(&'k self, table: &'k Table) -> impl Iterator<Item = (Kind, &'k [u8])> {
        let kinds = table.key.iter().filter_map(|place| table.columns.get(*place)).map(|column| column.kind);
        kinds.zip(self.0.iter().map(Vec::as_slice))
    }

    /// Its values, for a statement of SQLite.
    pub(super) fn values(&self, table: &Table) -> Vec<Value> {
        let value = |(kind, bytes): (Kind, &[u8])| match kind {
            Kind::Text => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
            Kind::Uuid | Kind::Bytes => Value::Blob(bytes.to_vec()),
            Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Bool => Value::Integer(number(bytes)),
        };
        self.parts(table).map(value).collect()
    }

    /// For people.
    pub(super) fn shown(&self, table: &Table) -> String {
        let part = |(kind, bytes): (Kind, &[u8])| match kind {
            Kind::Text => String::from_utf8_lossy(bytes).escape_debug().to_string(),
            Kind::Uuid => Uuid::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default(),
            Kind::Bytes => hex(bytes),
            Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Bool => number(bytes).to_string(),
        };
        self.parts(table).map(part).collect::<Vec<_>>().join(" ")
    }

    /// The order in which both sides are read.
    pub(super) fn compare(&self, other: &Self, table: &Table) -> Ordering {
        let pairs = self.parts(table).zip(other.parts(table));
        pairs.fold(Ordering::Equal, |order, ((kind, one), (_, two))| {
            order.then_with(|| match kind {
                Kind::Text | Kind::Uuid | Kind::Bytes => one.cmp(two),
                Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Bool => number(one).cmp(&number(two)),
            })
        })
    }
}

/// A signed number in network order.
pub(super) fn number(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|byte| *byte >= 0x80) { -1 } else { 0 };
    bytes.iter().fold(sign, |number, byte| (number << 8) | i64::from(*byte))
}

/// A checksum that depends on every row and on their order: each row's tuple is
/// hashed together with the checksum of all rows before it (SHA-256).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checksum([u8; 32]);

impl Checksum {
    pub(super) fn add(&mut self, tuple: &[u8]) {
        self.0 = Sha256::new().chain_update(self.0).chain_update(tuple).finalize().into();
    }

    pub(super) fn stored(self) -> String {
        hex(&self.0)
    }

    pub(super) fn from_stored(text: &str) -> Option<Self> {
        from_hex(text)?.try_into().ok().map(Self)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |character: u8| char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rusqlite::Connection;

    use super::*;
    use crate::migrate::tables::tests::some;

    fn tuple(table: &Table, row: &str) -> Result<Vec<u8>, BadValue> {
        let connection = Connection::open_in_memory().unwrap();
        let mut statement = connection.prepare(&format!("SELECT {row}")).unwrap();
        let mut bytes = Vec::new();
        statement.query_row([], |row| Ok(encode(table, row, &mut bytes))).unwrap()?;
        Ok(bytes)
    }

    fn counts() -> Table {
        let columns =
            [("org_id", Kind::Int8), ("status", Kind::Int2), ("slot", Kind::Int4), ("count", Kind::Int8)];
        some("task_counts", &columns)
    }

    #[test]
    fn rows_and_their_keys_come_back_as_they_went() {
        let counts = &counts();
        let bytes = tuple(counts, "-5, 3, 0, 9223372036854775807").unwrap();
        assert_eq!(length(&bytes), Some(bytes.len()));
        assert!((0..bytes.len()).all(|end| length(&bytes[..end]).is_none()));
        assert_eq!(length(&TRAILER), Some(0));
        let key = Key::of(counts, &bytes);
        assert_eq!(key.shown(counts), "-5 3");
        assert_eq!(key.values(counts), [Value::Integer(-5), Value::Integer(3)]);
        assert_eq!(Key::from_stored(counts, &key.stored()), Some(key.clone()));
        let later = Key::of(counts, &tuple(counts, "2, 0, 0, 0").unwrap());
        assert_eq!(key.compare(&later, counts), Ordering::Less);
        let mut sums = [Checksum::default(); 2];
        sums[0].add(b"ab");
        sums[1].add(b"a");
        sums[1].add(b"b");
        assert_ne!(sums[0], sums[1]);
        assert_eq!(Checksum::from_stored(&sums[0].stored()), Some(sums[0]));
        assert_eq!((from_hex("abc"), from_hex("zz")), (None, None));
    }

    #[test]
    fn what_the_target_cannot_hold_is_named() {
        let orgs = &some("orgs", &[("id", Kind::Int8), ("name", Kind::Text), ("created_at", Kind::Int8)]);
        let keys =
            &some("api_keys", &[("id", Kind::Int8), ("digest", Kind::Bytes), ("revoked_at", Kind::Int8)]);
        assert_eq!(tuple(orgs, "1, 'a' || char(0), 2").unwrap_err().0, "name");
        assert_eq!(tuple(orgs, "1, CAST(x'ff' AS TEXT), 2"), Err(("name".to_owned(), "is no UTF-8")));
        assert_eq!(tuple(orgs, "'x', 'a', 2").unwrap_err().0, "id");
        let counts = &counts();
        assert_eq!(tuple(counts, "1, 40000, 0, 0"), Err(("status".to_owned(), "is out of range")));
        let key = tuple(keys, "5, x'0001', NULL").unwrap();
        assert_eq!(fields(&key), [Some(&5_i64.to_be_bytes()[..]), Some(&[0, 1]), None]);
    }
}
