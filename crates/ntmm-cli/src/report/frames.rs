//! Maps of all frames of a machine at several moments, coloured by what each frame is doing.
//!
//! A large machine has more frames than a map has cells; then a cell stands for several
//! neighbouring frames and has the colour that most of them have.

use std::fmt::Write;

use ntmm_machine::Nanoseconds;

use super::legend;
use super::svg::Drawing;
use crate::run::samples::{FrameMap, FrameShade};

const COLUMNS: usize = 64;
const CELLS: usize = 4096;
const CELL: f64 = 3.0;

const SHADES: [(FrameShade, &str, &str); 8] = [
    (FrameShade::Program, "program", "page of a program"),
    (FrameShade::Space, "space", "page table, working-set list, descriptor"),
    (FrameShade::Manager, "manager", "the manager's own"),
    (FrameShade::Modified, "modified", "modified"),
    (FrameShade::Standby, "standby", "standby"),
    (FrameShade::Transition, "disk", "in transfer or flush"),
    (FrameShade::Free, "free", "free"),
    (FrameShade::Zeroed, "zeroed", "zeroed"),
];

/// The maps with their legend.
#[must_use]
pub fn maps(samples: &[(Nanoseconds, FrameMap)]) -> String {
    let entries = SHADES.map(|(_, class, name)| (class, name));
    let mut page = legend(&entries);
    if let Some((_, map)) = samples.first()
        && map.len() > CELLS
    {
        // Writing to a string does not fail.
        let _ = writeln!(page, "<p>Each cell stands for {} frames.</p>", frames_per_cell(map));
    }
    page.push_str("<div class=\"maps\">\n");
    for (time, map) in samples {
        let caption = format!("{:.1} ms", time.0 as f64 / 1e6);
        let drawing = draw(&cells(map), &format!("frames after {caption}"));
        let _ = writeln!(page, "<figure>{drawing}<figcaption>{caption}</figcaption></figure>");
    }
    page.push_str("</div>\n");
    page
}

const fn frames_per_cell(map: &FrameMap) -> usize {
    map.len().div_ceil(CELLS)
}

/// The colour of each cell.
fn cells(map: &FrameMap) -> Vec<FrameShade> {
    let most = |frames: &[FrameShade]| {
        let count = |shade: FrameShade| frames.iter().filter(|frame| **frame == shade).count();
        let shades = SHADES.iter().map(|(shade, ..)| *shade);
        shades.max_by_key(|shade| count(*shade)).unwrap_or(FrameShade::Free)
    };
    match frames_per_cell(map) {
        0 | 1 => map.clone(),
        frames => map.chunks(frames).map(most).collect(),
    }
}

/// Each colour is one path of horizontal strokes, one for each run of equal cells in a row.
fn draw(cells: &[FrameShade], label: &str) -> String {
    let rows = cells.len().div_ceil(COLUMNS);
    let mut drawing = Drawing::new(COLUMNS as f64 * CELL, rows as f64 * CELL, label);
    for (shade, class, _) in SHADES {
        let mut data = String::new();
        for (row, line) in cells.chunks(COLUMNS).enumerate() {
            let mut column = 0;
            for run in line.chunk_by(|one, other| one == other) {
                if run.first() == Some(&shade) {
                    let x = column as f64 * CELL;
                    let y = (row as f64 + 0.5) * CELL;
                    // Writing to a string does not fail.
                    let _ = write!(data, "M{x} {y}h{}", run.len() as f64 * CELL);
                }
                column += run.len();
            }
        }
        if !data.is_empty() {
            drawing.strokes(&format!("cells {class}"), CELL, &data);
        }
    }
    drawing.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use FrameShade::{Free, Program, Zeroed};

    #[test]
    fn runs_of_a_row_are_one_stroke() {
        let mut map = vec![Program; 64];
        map.extend([Free, Free, Program]);
        let drawing = draw(&cells(&map), "x");
        assert!(
            drawing.contains("class=\"cells program\" stroke-width=\"3\" d=\"M0 1.5h192M6 4.5h3\"")
        );
        assert!(drawing.contains("class=\"cells free\" stroke-width=\"3\" d=\"M0 4.5h6\""));
    }

    #[test]
    fn large_machines_are_summed_up() {
        let mut map = vec![Zeroed; 3 * CELLS - 3];
        map.extend([Program, Free, Program]);
        let cells = cells(&map);
        assert_eq!(cells.len(), CELLS);
        assert_eq!(cells.last(), Some(&Program));
    }
}
