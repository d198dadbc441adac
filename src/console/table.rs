//! Columns as wide as their widest cell. Where a terminal is narrower, the least important columns go, then cells are
//! cut.

use unicode_width::UnicodeWidthStr as _;

/// Between two columns.
const GAP: usize = 3;
/// No cell is cut below this.
const NARROWEST: usize = 8;

/// A column: its heading, and how important it is (0: never left out).
pub(super) type Column = (&'static str, u8);

/// Lines without trailing space. `width` is that of the terminal, if there is one.
pub(super) fn table(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> String {
    let widest: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, (heading, _))| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.width());
            cells.chain([heading.width()]).max().unwrap_or(0)
        })
        .collect();
    let mut shown: Vec<(usize, usize)> = widest.iter().copied().enumerate().collect();
    if let Some(width) = width {
        fit(&mut shown, columns, width);
    }
    let headings: Vec<String> = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (at, width) in &shown {
            let cell = row.get(*at).map_or("", String::as_str);
            let cell = cut(cell, *width);
            let space = width.saturating_sub(cell.width()) + GAP;
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', space));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn total(shown: &[(usize, usize)]) -> usize {
    shown.iter().map(|(_, width)| width + GAP).sum::<usize>().saturating_sub(GAP)
}

fn fit(shown: &mut Vec<(usize, usize)>, columns: &[Column], width: usize) {
    let rank = |at: usize| columns.get(at).map_or(0, |(_, rank)| *rank);
    while total(shown) > width {
        let least = shown.iter().map(|(at, _)| *at).max_by_key(|at| (rank(*at), *at));
        match least.filter(|at| rank(*at) > 0) {
            Some(least) => shown.retain(|(at, _)| *at != least),
            None => break,
        }
    }
    while total(shown) > width {
        match shown.iter_mut().max_by_key(|(_, width)| *width) {
            Some((_, widest)) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
}

/// A text in at most so many columns of a terminal; the end that is missing shows as one dot.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        let mut longer = short.clone();
        longer.push(c);
        if longer.width() + 1 > width {
            break;
        }
        short = longer;
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[("NAME", 0), ("LEADER", 0), ("NODE", 2), ("AGE", 1)];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        vec![row(["web/scheduler", "scheduler-7d4b9c-x2x1z", "node-1", "3 h"]), row(["b", "-", "-", "2 s"])]
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_with_text() {
        assert_eq!(
            table(COLUMNS, &rows(), None),
            "NAME            LEADER                   NODE     AGE\n\
             web/scheduler   scheduler-7d4b9c-x2x1z   node-1   3 h\n\
             b               -                        -        2 s\n"
        );
    }

    #[test]
    fn a_narrow_terminal_loses_the_least_important_columns_first_then_the_ends_of_cells() {
        assert_eq!(
            table(COLUMNS, &rows(), Some(48)).lines().next(),
            Some("NAME            LEADER                   AGE")
        );
        let narrow = table(COLUMNS, &rows(), Some(32));
        assert!(narrow.lines().all(|line| line.width() <= 32), "{narrow}");
        assert!(narrow.contains("web/scheduler") && narrow.contains('…'), "{narrow}");
        let hopeless = table(COLUMNS, &rows(), Some(1));
        assert!(hopeless.lines().all(|line| line.width() <= 2 * NARROWEST + GAP), "{hopeless}");
    }

    #[test]
    fn wide_characters_count_for_what_they_take() {
        let rows = vec![vec!["日本".to_owned(), "x".to_owned()], vec!["abcd".to_owned(), "y".to_owned()]];
        let text = table(&[("A", 0), ("B", 0)], &rows, None);
        assert_eq!(text, "A      B\n日本   x\nabcd   y\n");
        assert_eq!(cut("日本日本", 5), "日本…");
    }
}
