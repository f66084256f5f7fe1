//! Lists for people, in columns.

use std::io::IsTerminal;

use rustix::termios::tcgetwinsize;

/// How wide the terminal is that stdout goes to, in characters; `None` if there
/// is none. `COLUMNS` goes before what it says itself.
pub fn width() -> Option<usize> {
    let stdout = std::io::stdout();
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let own = || stdout.is_terminal().then(|| tcgetwinsize(&stdout).ok()).flatten().map(|size| size.ws_col.into());
    said.or_else(own).filter(|width| *width > 0)
}

/// Columns as wide as their widest entry. Where that is wider than the terminal,
/// each row is a paragraph instead, with a line for each column.
pub fn of<const N: usize>(heads: &[&str; N], rows: &[[String; N]], width: Option<usize>) -> String {
    let heads = heads.map(str::to_owned);
    let all: Vec<&[String; N]> = std::iter::once(&heads).chain(rows).collect();
    let chars = |cell: &String| cell.chars().count();
    let widths: [usize; N] = std::array::from_fn(|column| all.iter().map(|row| chars(&row[column])).max().unwrap_or(0));
    if width.is_some_and(|width| widths.iter().sum::<usize>() + 2 * N.saturating_sub(1) > width) {
        return paragraphs(&heads, rows);
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn paragraphs<const N: usize>(heads: &[String; N], rows: &[[String; N]]) -> String {
    let width = heads.iter().map(String::len).max().unwrap_or(0);
    let line = |(head, cell): (&String, &String)| format!("{head:width$}  {cell}");
    let paragraph = |row: &[String; N]| heads.iter().zip(row).map(line).collect::<Vec<_>>().join("\n");
    rows.iter().map(paragraph).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [[String; 3]; 2] {
        [["1", "shop", "-"], ["20", "a-long-name", "2026-11-22"]].map(|row| row.map(str::to_owned))
    }

    #[test]
    fn columns_line_up() {
        let expected = "\
ID  NAME         REVOKED
1   shop         -
20  a-long-name  2026-11-22";
        assert_eq!(of(&["ID", "NAME", "REVOKED"], &rows(), None), expected);
        assert_eq!(of(&["ID", "NAME", "REVOKED"], &rows(), Some(27)), expected);
    }

    #[test]
    fn what_is_too_wide_becomes_paragraphs() {
        let expected = "\
ID       1
NAME     shop
REVOKED  -

ID       20
NAME     a-long-name
REVOKED  2026-11-22";
        assert_eq!(of(&["ID", "NAME", "REVOKED"], &rows(), Some(26)), expected);
    }
}
