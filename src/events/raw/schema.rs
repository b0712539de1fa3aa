//! The columns of raw files. Their names and types are a promise: new ones go to the end, none changes its meaning.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::{Type, TypePtr};

use super::super::Field;

/// Bytes of a hash.
pub(super) const HASH_BYTES: i32 = 16;

/// A column of raw files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// What happened, by name.
    Kind,
    /// When it happened, milliseconds UTC.
    At,
    /// The time as the sender wrote it, where it differs.
    Stamped,
    /// When it was received, milliseconds UTC.
    Received,
    /// The reason bits.
    Reasons,
    /// Price in millionths.
    Price,
    /// Revenue in millionths.
    Revenue,
    /// The user's keyed hash.
    User,
    /// The address's keyed hash.
    Ip,
    /// The day's visitor.
    Visitor,
    /// The version of lists and filters.
    Rules,
    /// A text.
    Text(Field),
}

/// Columns that are no texts, in their order.
const NUMBERS: [Column; 11] = [
    Column::Kind,
    Column::At,
    Column::Stamped,
    Column::Received,
    Column::Reasons,
    Column::Price,
    Column::Revenue,
    Column::User,
    Column::Ip,
    Column::Visitor,
    Column::Rules,
];

/// Returns all columns, in the order of the files.
pub fn columns() -> impl Iterator<Item = Column> {
    NUMBERS.into_iter().chain(Field::ALL.into_iter().map(Column::Text))
}

impl Column {
    /// Returns the place of the column in a file.
    pub(super) fn index(self) -> usize {
        match self {
            Column::Text(field) => NUMBERS.len() + field as usize,
            number => NUMBERS
                .iter()
                .position(|column| *column == number)
                .expect("all numbers are listed"),
        }
    }

    /// Returns the column's name.
    pub fn name(self) -> &'static str {
        match self {
            Column::Kind => "type",
            Column::At => "ts",
            Column::Stamped => "sender_ts",
            Column::Received => "received_at",
            Column::Reasons => "reasons",
            Column::Price => "price_micros",
            Column::Revenue => "revenue_micros",
            Column::User => "user_hash",
            Column::Ip => "ip_hash",
            Column::Visitor => "visitor",
            Column::Rules => "rules",
            Column::Text(field) => field.name(),
        }
    }

    /// Whether some events have no value there.
    pub(super) fn is_optional(self) -> bool {
        match self {
            Column::Stamped | Column::User | Column::Ip | Column::Visitor => true,
            Column::Text(field) => field != Field::EventId,
            _ => false,
        }
    }

    fn field(self) -> Type {
        let physical = match self {
            Column::Kind | Column::Text(_) => Physical::BYTE_ARRAY,
            Column::At | Column::Stamped | Column::Received => Physical::INT64,
            Column::Price | Column::Revenue | Column::Visitor => Physical::INT64,
            Column::Reasons | Column::Rules => Physical::INT32,
            Column::User | Column::Ip => Physical::FIXED_LEN_BYTE_ARRAY,
        };
        let time = || LogicalType::timestamp(true, TimeUnit::MILLIS);
        let logical = match self {
            Column::Kind | Column::Text(_) => Some(LogicalType::String),
            Column::At | Column::Stamped | Column::Received => Some(time()),
            Column::Reasons | Column::Rules => Some(LogicalType::integer(32, false)),
            Column::Visitor => Some(LogicalType::integer(64, false)),
            Column::Price | Column::Revenue | Column::User | Column::Ip => None,
        };
        let repetition = match self.is_optional() {
            true => Repetition::OPTIONAL,
            false => Repetition::REQUIRED,
        };
        let length = if physical == Physical::FIXED_LEN_BYTE_ARRAY {
            HASH_BYTES
        } else {
            -1
        };
        let field = Type::primitive_type_builder(self.name(), physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .with_length(length)
            .build();
        field.expect("the types of the columns go together")
    }
}

/// Returns the schema of all files.
pub(super) fn schema() -> TypePtr {
    let fields = columns().map(|column| Arc::new(column.field())).collect();
    let schema = Type::group_type_builder("event").with_fields(fields).build();
    Arc::new(schema.expect("the columns have different names"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_what_the_manual_says() {
        let manual = include_str!("../../../docs/events.md");
        for (index, column) in columns().enumerate() {
            assert_eq!(column.index(), index);
            let row = format!("| `{}` |", column.name());
            assert!(
                manual.contains(&row),
                "docs/events.md does not describe {}",
                column.name()
            );
        }
        assert_eq!(schema().get_fields().len(), columns().count());
    }
}
