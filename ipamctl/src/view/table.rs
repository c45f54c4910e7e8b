//! One table: with lines on a terminal, in plain columns elsewhere.
//!
//! Owns looks only.

use comfy_table::{CellAlignment, Table, presets};

/// The columns of a table over rows of type `T`.
pub(super) struct Columns<T>(Vec<Column<T>>);

struct Column<T> {
    head: &'static str,
    align: CellAlignment,
    value: Box<dyn Fn(&T) -> String>,
}

impl<T> Columns<T> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// A column of names.
    pub(super) fn left(self, head: &'static str, value: impl Fn(&T) -> String + 'static) -> Self {
        self.with(head, CellAlignment::Left, value)
    }

    /// A column of numbers.
    pub(super) fn right(self, head: &'static str, value: impl Fn(&T) -> String + 'static) -> Self {
        self.with(head, CellAlignment::Right, value)
    }

    fn with(mut self, head: &'static str, align: CellAlignment, value: impl Fn(&T) -> String + 'static) -> Self {
        self.0.push(Column { head, align, value: Box::new(value) });
        self
    }

    /// The rows under their heads, with the last newline.
    pub(super) fn render(&self, rows: &[T], lines: bool) -> String {
        let mut table = Table::new();
        table.load_style(if lines { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
        table.set_header(self.0.iter().map(|column| column.head));
        for row in rows {
            table.add_row(self.0.iter().map(|column| (column.value)(row)));
        }
        for (shown, column) in table.column_iter_mut().zip(&self.0) {
            if !lines {
                shown.set_padding((0, 2));
            }
            shown.set_cell_alignment(column.align);
        }
        table.trim_fmt() + "\n"
    }
}
