//! What a neighbour noticed, for people.

use std::fmt::Write;

use super::neighbour::Errand;
use super::row::{Compared, Noticed, Row};
use super::tally::Tally;

/// As text for a terminal.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("What a neighbour waits for, before an attack and during it, in ms:\n\n");
    for row in rows {
        let _ = writeln!(text, "{}: {}", row.attack, row.what);
        match &row.noticed {
            Some(noticed) => write_noticed(&mut text, noticed),
            None => {
                let _ = writeln!(text, "  {}\n", failed(row));
            }
        }
    }
    text + "It is noticed if something is not done, or p99 is more than twice as long and more than 10 ms longer."
}

fn write_noticed(text: &mut String, noticed: &Noticed) {
    let _ = writeln!(
        text,
        "  {:10} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "", "before p50", "p99", "during p50", "p99", "not done"
    );
    for Compared { what, before, during, is_ok } in &noticed.waits {
        let verdict = if *is_ok { "ok" } else { "NOTICED" };
        let _ = writeln!(
            text,
            "  {what:10} {:>10} {:>10} {:>10} {:>10} {:>12} {verdict}",
            ms(before.p50_us),
            ms(before.p99_us),
            ms(during.p50_us),
            ms(during.p99_us),
            format!("{} of {}", during.missed, during.count)
        );
    }
    let _ = writeln!(
        text,
        "  memory {} MB at most, {} MB after; store {} MB; {}\n",
        mb(noticed.peak_rss),
        mb(noticed.rss_after),
        mb(Some(noticed.store_bytes)),
        calls(noticed.attacker)
    );
}

/// Rows of a table in Markdown, below a heading of its own.
pub fn markdown(rows: &[Row]) -> String {
    let names: Vec<_> = Errand::ALL.iter().map(|errand| errand.name()).collect();
    let mut text =
        format!("| attack | {} | memory | the attacker's calls |\n|{}\n", names.join(" | "), "---|".repeat(8));
    for row in rows {
        let cells = match &row.noticed {
            Some(noticed) => {
                let waits: Vec<_> = noticed.waits.iter().map(cell).collect();
                format!("{} | {} MB | {}", waits.join(" | "), mb(noticed.peak_rss), calls(noticed.attacker))
            }
            // A line would end the row, and a bar the cell.
            None => format!("{}{}", failed(row).replace(['\n', '|'], " "), " |".repeat(6)),
        };
        let _ = writeln!(text, "| `{}` | {cells} |", row.attack);
    }
    text.trim_end().to_owned()
}

fn failed(row: &Row) -> String {
    format!("not measured: {}", row.failed.as_deref().unwrap_or_default())
}

fn cell(compared: &Compared) -> String {
    let Compared { before, during, is_ok, .. } = compared;
    let text = match during.missed {
        0 => format!("{} → {}", ms(before.p99_us), ms(during.p99_us)),
        missed => format!("{} → {missed} of {} not done", ms(before.p99_us), during.count),
    };
    if *is_ok { text } else { format!("**{text}**") }
}

fn calls(tally: Option<Tally>) -> String {
    tally.map_or("n/a".to_owned(), |Tally { done, refused, cut }| {
        format!("{done} done, {refused} refused, {cut} cut off")
    })
}

fn ms(us: u64) -> String {
    let ms = us as f64 / 1_000.0;
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

fn mb(bytes: Option<u64>) -> String {
    bytes.map_or("n/a".to_owned(), |bytes| format!("{:.0}", bytes as f64 / 1_048_576.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_an_attack_that_failed_says_why() {
        let row = Row { attack: "long-filter", what: "filters", noticed: None, failed: Some("no | room".to_owned()) };
        assert!(table(&[row]).contains("long-filter: filters\n  not measured: no | room\n"));
        let row = Row { attack: "long-filter", what: "filters", noticed: None, failed: Some("no | room".to_owned()) };
        let rows = markdown(&[row]);
        assert!(rows.ends_with("| `long-filter` | not measured: no   room | | | | | | |"), "{rows}");
        let columns = |line: &str| line.matches('|').count();
        assert!(rows.lines().all(|line| columns(line) == 9), "{rows}");
    }
}
