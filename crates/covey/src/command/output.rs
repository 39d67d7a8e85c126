//! How answers are printed: tables and text for people, JSON for programs.
//!
//! What was asked for goes to standard output; what is said about it (states,
//! times, what to type next) to standard error. Texts that a device or an
//! application chose are never given to a terminal with control characters.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};
use covey_client::TaskStatus;
use serde::Serialize;

/// Spaces between two columns of a table.
const GAP: u16 = 2;
/// Narrower than this, a column that is broken into lines cannot be read.
const BREAKING_WIDTH_MIN: u16 = 20;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Print JSON.
    pub json: bool,
    /// Whether standard output is a terminal.
    pub is_terminal: bool,
    has_colour: bool,
}

impl Output {
    /// Prints JSON if asked for, else for people.
    pub fn new(json: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        // https://no-color.org
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, is_terminal, has_colour: is_terminal && !is_plain }
    }

    /// Prints lines of text.
    pub fn text(self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", text.trim_end_matches('\n'))?;
        stdout.flush()
    }

    /// Prints a value as one line of JSON.
    pub fn json(self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        let mut stdout = io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.flush()
    }

    /// Says something about the answer, beside it.
    pub fn note(self, text: &str) {
        // Whoever does not listen to remarks need not get the answer spoilt.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Prints a list: one line of JSON for each item, or a table.
    pub fn list<T: Serialize>(
        self,
        columns: &[&str],
        items: &[T],
        row: impl Fn(&T) -> Vec<Cell>,
    ) -> io::Result<()> {
        if self.json {
            return items.iter().try_for_each(|item| self.json(item));
        }
        // Of nothing there is not even a head.
        if items.is_empty() {
            return Ok(());
        }
        self.text(&self.table(columns, items.iter().map(row)))
    }

    /// A table with these columns, but for those in which there is nothing. On
    /// a terminal the last one is broken into lines if there is room for that.
    pub fn table(self, columns: &[&str], rows: impl IntoIterator<Item = Vec<Cell>>) -> String {
        let rows: Vec<_> = rows.into_iter().collect();
        let is_empty = |column: usize| {
            rows.iter().all(|row| row.get(column).is_none_or(|cell| cell.content().is_empty()))
        };
        let shown: Vec<usize> = (0..columns.len()).filter(|column| !is_empty(*column)).collect();
        let pick =
            |cells: Vec<Cell>| shown.iter().filter_map(|at| cells.get(*at).cloned()).collect::<Vec<_>>();
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(pick(columns.iter().map(Cell::new).collect()));
        table.add_rows(rows.into_iter().map(pick));
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        let Some(last) = shown.len().checked_sub(1) else { return String::new() };
        let before: u16 = table.column_max_content_widths().iter().take(last).map(|width| width + GAP).sum();
        let room = table.width().map_or(0, |width| width.saturating_sub(before));
        if self.is_terminal && room >= BREAKING_WIDTH_MIN {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            for column in table.column_iter_mut().take(last) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        table.trim_fmt()
    }

    /// A state as a cell of a table.
    pub fn status(self, status: TaskStatus) -> Cell {
        let cell = Cell::new(status);
        if self.has_colour { cell.fg(colour(status)) } else { cell }
    }
}

fn colour(status: TaskStatus) -> Color {
    match status {
        TaskStatus::Done => Color::Green,
        TaskStatus::Failed | TaskStatus::Expired => Color::Red,
        TaskStatus::Deleted | TaskStatus::Undefined => Color::DarkGrey,
        TaskStatus::Ready | TaskStatus::Pending | TaskStatus::Lock => Color::Yellow,
    }
}

/// A text that somebody else chose, as a cell of a table.
pub fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(printable(text.as_ref()))
}

/// A text without the characters that command a terminal.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_direction(character) {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// Whether a character turns the direction of writing, which can make a text
/// look like another (Unicode Standard Annex #9 §2).
fn is_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_somebody_else_chose_commands_a_terminal() {
        assert_eq!(printable("Küche 1 – \u{1f4a1}"), "Küche 1 – \u{1f4a1}");
        assert_eq!(printable("\u{1b}[2Ja\r\nb\u{9b}\u{202e}c"), r"\u{1b}[2Ja\r\nb\u{9b}\u{202e}c");
    }

    #[test]
    fn a_table_is_plain_text_when_nobody_looks() {
        let output = Output { json: false, is_terminal: false, has_colour: false };
        let rows = [
            vec![cell("a"), cell(""), output.status(TaskStatus::Done)],
            vec![cell("bcd"), cell(""), cell("")],
        ];
        assert_eq!(output.table(&["ID", "NOTHING", "STATE"], rows), "ID   STATE\na    DONE\nbcd");
        assert_eq!(output.table(&["ID"], []), "");
    }
}
