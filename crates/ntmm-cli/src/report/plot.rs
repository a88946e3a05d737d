//! Values over virtual time: lines, or areas stacked on each other.

use std::fmt::Write;

use super::legend;
use super::svg::{Anchor, Drawing};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 36.0;

/// How values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Each by a line.
    Lines,
    /// By areas on top of each other, the first at the bottom.
    Stacked,
}

/// Values under one name.
#[derive(Clone, Debug)]
pub struct Line {
    /// What they are.
    pub name: &'static str,
    /// Class that has the colour.
    pub class: &'static str,
    /// One value for each time.
    pub values: Vec<f64>,
}

/// A plot over time.
#[derive(Clone, Debug)]
pub struct Plot {
    /// How values are shown.
    pub form: Form,
    /// What is counted.
    pub unit: &'static str,
    /// Times in milliseconds, ascending.
    pub times: Vec<f64>,
    /// The values.
    pub lines: Vec<Line>,
}

/// A scale from values to the screen.
#[derive(Clone, Copy)]
struct Scale {
    limit: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn at(self, value: f64) -> f64 {
        self.from + (self.to - self.from) * value / self.limit
    }
}

/// A round number of which at most `most` fit into `limit`.
fn tick(limit: f64, most: f64) -> f64 {
    let rough = limit / most;
    let power = 10.0_f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| rough <= digit * power);
    digit.unwrap_or(10.0) * power
}

/// A number of a scale with ticks so far apart.
fn label(value: f64, tick: f64) -> String {
    let decimals = (-tick.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
}

/// The multiples of `tick` up to `limit`.
fn ticks(tick: f64, limit: f64) -> impl Iterator<Item = f64> {
    (0..=(limit / tick + 1e-9) as u32).map(move |number| f64::from(number) * tick)
}

impl Plot {
    /// The plot with its legend.
    #[must_use]
    pub fn draw(&self) -> String {
        let tops = self.tops();
        let highest = tops.iter().flatten().copied().fold(0.0, f64::max);
        if self.times.len() < 2 {
            return "<p>The run was too short for a plot.</p>\n".to_owned();
        }
        let last = self.times.last().copied().unwrap_or(1.0).max(1e-6);
        let highest = highest.max(1.0);
        let step = tick(highest, 5.0);
        let limit = match self.form {
            Form::Lines => (highest / step).ceil() * step,
            Form::Stacked => highest,
        };
        let x = Scale { limit: last, from: LEFT, to: WIDTH - RIGHT };
        let y = Scale { limit, from: HEIGHT - BOTTOM, to: TOP };
        let mut drawing = Drawing::new(WIDTH, HEIGHT, self.unit);
        for value in ticks(step, limit) {
            let (left, right, at) = (LEFT, WIDTH - RIGHT, y.at(value));
            drawing.path("grid", &format!("M{left:.1} {at:.1}H{right:.1}"));
            drawing.text(LEFT - 8.0, at + 4.0, Anchor::End, &label(value, step));
        }
        let time_step = tick(last, 10.0);
        for time in ticks(time_step, last) {
            let at = HEIGHT - BOTTOM + 18.0;
            drawing.text(x.at(time), at, Anchor::Middle, &label(time, time_step));
        }
        drawing.text(LEFT, TOP - 10.0, Anchor::Start, self.unit);
        drawing.text(WIDTH - RIGHT, HEIGHT - 4.0, Anchor::End, "virtual time, ms");
        self.draw_values(&mut drawing, &tops, x, y);
        let entries: Vec<_> = self.lines.iter().map(|line| (line.class, line.name)).collect();
        format!("{}<div class=\"wide\">{}</div>\n", legend(&entries), drawing.finish())
    }

    /// Where each line runs: its values, on top of those below it when they are stacked.
    fn tops(&self) -> Vec<Vec<f64>> {
        let mut below = vec![0.0; self.times.len()];
        let mut tops = Vec::with_capacity(self.lines.len());
        for line in &self.lines {
            let top: Vec<f64> = match self.form {
                Form::Lines => line.values.clone(),
                Form::Stacked => {
                    line.values.iter().zip(&below).map(|(value, base)| value + base).collect()
                }
            };
            below.clone_from(&top);
            tops.push(top);
        }
        tops
    }

    fn draw_values(&self, drawing: &mut Drawing, tops: &[Vec<f64>], x: Scale, y: Scale) {
        let trace = |values: &[f64]| {
            let mut data = String::new();
            for (time, value) in self.times.iter().zip(values) {
                let letter = if data.is_empty() { 'M' } else { 'L' };
                // Writing to a string does not fail.
                let _ = write!(data, "{letter}{:.1} {:.1}", x.at(*time), y.at(*value));
            }
            data
        };
        match self.form {
            Form::Lines => {
                for (line, top) in self.lines.iter().zip(tops) {
                    drawing.path(&format!("line {}", line.class), &trace(top));
                }
            }
            // From the highest down, so that each area need only reach to the bottom.
            Form::Stacked => {
                let ends = (self.times.first(), self.times.last());
                let (Some(first), Some(last)) = ends else { return };
                for (line, top) in self.lines.iter().zip(tops).rev() {
                    let (right, left, bottom) = (x.at(*last), x.at(*first), y.at(0.0));
                    let closed =
                        format!("{}L{right:.1} {bottom:.1}L{left:.1} {bottom:.1}Z", trace(top));
                    drawing.path(&format!("area {}", line.class), &closed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for limit in [0.003, 0.9, 1.0, 7.0, 42.0, 4096.0, 123_456.0] {
            let step = tick(limit, 10.0);
            let count = ticks(step, limit).count();
            assert!((5..=11).contains(&count), "{count} ticks of {step} up to {limit}");
        }
        assert_eq!([tick(5.0, 5.0), tick(9.0, 5.0), tick(23.0, 5.0)], [1.0, 2.0, 5.0]);
        assert_eq!((label(0.5, 0.1).as_str(), label(40.0, 20.0).as_str()), ("0.5", "40"));
    }

    #[test]
    fn areas_stand_on_each_other() {
        let line = |values: &[f64]| Line { name: "n", class: "c", values: values.to_vec() };
        let plot = Plot {
            form: Form::Stacked,
            unit: "frames",
            times: vec![0.0, 1.0],
            lines: vec![line(&[1.0, 2.0]), line(&[3.0, 0.0])],
        };
        assert_eq!(plot.tops(), [[1.0, 2.0], [4.0, 2.0]]);
        assert_eq!(plot.draw().matches("<path class=\"area c\"").count(), 2);
    }
}
