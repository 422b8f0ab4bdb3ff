//! Plots as SVG, drawn by hand: server CPU per operation, a line for each participant.
//!
//! Both axes are logarithmic, so that the same distance upwards is the same ratio everywhere. The
//! legend has the order of the lines' right ends.

use std::fmt::Write;

use crate::report::cell_name::CellName;
use crate::report::figures::{BARE, Figures, ORDER, PROTOCOL, STREAMS, family};

/// A plot: its file in `docs/performance/`, and which cells it is drawn from.
pub struct Plot {
    pub file: &'static str,
    title: &'static str,
    axis: &'static str,
    /// Where a cell is on the x axis, if it is there.
    place: fn(&CellName) -> Option<u64>,
    label: fn(u64) -> String,
}

pub const PLOTS: [Plot; 3] = [
    Plot {
        file: "connections-64.svg",
        title: "Echoes of 64 bytes: server CPU over connections",
        axis: "connections",
        place: |cell| cell.connections.filter(|_| cell.bytes == Some(64)),
        label: |connections| connections.to_string(),
    },
    Plot {
        file: "sizes-c10.svg",
        title: "Echoes on 10 connections: server CPU over message sizes",
        axis: "bytes in a message",
        place: |cell| cell.bytes.filter(|_| cell.connections == Some(10)),
        label: size_label,
    },
    Plot {
        file: "sizes-c100.svg",
        title: "Echoes on 100 connections: server CPU over message sizes",
        axis: "bytes in a message",
        place: |cell| cell.bytes.filter(|_| cell.connections == Some(100)),
        label: size_label,
    },
];

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 670.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 420.0;
/// Between the lines of the legend, and at least between labels of an axis.
const LINE: f64 = 20.0;

/// Medium tones, which can be told from white and from black; what is white or black itself is
/// set for both. A class for each family in [`ORDER`].
const STYLE: &str = "\
text { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #24292f; }
.title { font-size: 16px; font-weight: 600; }
.paper { fill: #ffffff; }
.grid { stroke: #d8dee4; stroke-width: 1; }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.ours { stroke-width: 3.4; }
.strong { font-weight: 700; }
.streams { stroke-dasharray: 7 4; }
.bare { stroke: #24292f; stroke-width: 2; stroke-dasharray: 2 3; }
.mio { stroke: #9c6644; }
.evloop { stroke: #e5484d; }
.tokio { stroke: #2f81f7; }
.smol { stroke: #a371f7; }
.monoio { stroke: #1a9e77; }
.glommio { stroke: #56b6c2; }
.libuv { stroke: #d4a000; }
.uvloop { stroke: #d16ba5; }
.asyncio { stroke: #7d8590; }
.other { stroke: #57606a; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .paper { fill: #0d1117; }
  .grid { stroke: #30363d; }
  .bare { stroke: #e6edf3; }
}";

struct Series<'a> {
    participant: &'a str,
    /// Place on the x axis and microseconds, from left to right.
    points: Vec<(f64, f64)>,
}

impl Plot {
    pub fn draw(&self, figures: &Figures) -> String {
        let series = self.series(figures);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{0}\">\n\
             <style>\n{STYLE}\n</style>\n\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"26\">{0}</text>\n",
            self.title
        );
        let places = || series.iter().flat_map(|series| series.points.iter());
        let x = Scale::over(places().map(|(x, _)| *x), LEFT, RIGHT);
        let y = Scale::over(places().map(|(_, y)| *y), BOTTOM, TOP);
        match (x, y) {
            (Some(x), Some(y)) => {
                self.axes(&mut svg, &series, &x, &y);
                for series in &series {
                    line(&mut svg, series, &x, &y);
                }
                legend(&mut svg, &series);
            }
            _ => text(&mut svg, "", "start", (LEFT, 80.0), "not measured"),
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// What is to be drawn first stands first: evloop is above its peers, and the floor above all,
    /// dotted, so that both are seen where they meet.
    fn series<'a>(&self, figures: &Figures<'a>) -> Vec<Series<'a>> {
        let place = |cell: &CellName| (self.place)(cell).filter(|_| cell.is_request_response());
        let mut cells = figures.cells_where(|cell| place(cell).is_some());
        cells.sort_by_key(|cell| place(cell));
        let mut participants = figures.participants(&cells);
        participants.sort_by_key(|participant| (*participant == BARE, is_ours(participant)));
        let series = participants.into_iter().map(|participant| Series {
            participant,
            points: cells
                .iter()
                .filter_map(|cell| {
                    let cost = figures.micros(&cell.name, participant)?;
                    Some((place(cell)? as f64, cost))
                })
                .collect(),
        });
        series.collect()
    }

    fn axes(&self, svg: &mut String, series: &[Series], x: &Scale, y: &Scale) {
        let mut places: Vec<u64> = series
            .iter()
            .flat_map(|series| series.points.iter().map(|(x, _)| *x as u64))
            .collect();
        places.sort_unstable();
        places.dedup();
        let mut last_label = f64::MIN;
        for place in places {
            let at = x.at(place as f64);
            grid(svg, (at, TOP), (at, BOTTOM));
            let label = (self.label)(place);
            // Half of it is on each side.
            let half = label.chars().count() as f64 * 4.0;
            if at - half > last_label + 6.0 {
                text(svg, "", "middle", (at, BOTTOM + 18.0), &label);
                last_label = at + half;
            }
        }
        for tick in y.ticks() {
            let at = y.at(tick);
            grid(svg, (LEFT, at), (RIGHT, at));
            text(svg, "", "end", (LEFT - 8.0, at + 4.5), &tick.to_string());
        }
        text(
            svg,
            "",
            "middle",
            ((LEFT + RIGHT) / 2.0, BOTTOM + 42.0),
            self.axis,
        );
        text(svg, "", "start", (8.0, TOP - 8.0), "µs");
    }
}

/// A logarithmic axis.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// From the lowest to the highest of these values, with a margin.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        (low <= high).then(|| {
            let margin = (high / low).powf(0.03).max(1.05);
            Self {
                low: low / margin,
                high: high * margin,
                from,
                to,
            }
        })
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + part * (self.to - self.from)
    }

    /// 1, 2, 5 and their tenfolds; where these are few, more of them.
    fn ticks(&self) -> Vec<f64> {
        let steps: &[f64] = match self.high / self.low {
            ratio if ratio < 4.0 => &[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
            ratio if ratio < 12.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
            ratio if ratio < 10_000.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let decades = (-3..9).map(|decade| 10_f64.powi(decade));
        let ticks = decades.flat_map(|decade| steps.iter().map(move |step| step * decade));
        // So that 0.1 is written as such.
        let ticks = ticks.map(|tick| (tick * 1e4).round() / 1e4);
        ticks
            .filter(|tick| (self.low..=self.high).contains(tick))
            .collect()
    }
}

fn line(svg: &mut String, series: &Series, x: &Scale, y: &Scale) {
    let points: Vec<String> = series
        .points
        .iter()
        .map(|(place, cost)| format!("{:.1},{:.1}", x.at(*place), y.at(*cost)))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline class=\"{}\" points=\"{}\"><title>{}</title></polyline>",
        classes(series.participant),
        points.join(" "),
        escaped(series.participant)
    );
}

/// In the order of the right ends of the lines, so that each name is about where its line ends.
fn legend(svg: &mut String, series: &[Series]) {
    let end = |series: &Series| series.points.last().copied().unwrap_or_default();
    let mut series: Vec<&Series> = series.iter().collect();
    series.sort_by(|a, b| f64::total_cmp(&end(b).1, &end(a).1));
    for (row, series) in series.into_iter().enumerate() {
        let at = TOP + 8.0 + row as f64 * LINE;
        let (from, to) = (RIGHT + 14.0, RIGHT + 46.0);
        let class = classes(series.participant);
        let _ = writeln!(svg, "<path class=\"{class}\" d=\"M{from},{at} H{to}\"/>");
        let strong = if is_ours(series.participant) {
            "strong"
        } else {
            ""
        };
        let place = (to + 8.0, at + 4.5);
        text(svg, strong, "start", place, series.participant);
    }
}

fn grid(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<path class=\"grid\" d=\"M{:.1},{:.1} L{:.1},{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, class: &str, anchor: &str, at: (f64, f64), words: &str) {
    let words = escaped(words);
    let (x, y) = at;
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>"
    );
}

/// A colour for each family; streams are dashed.
fn classes(participant: &str) -> String {
    let family = family(participant);
    let known = ORDER.contains(&family);
    let mut classes = format!("line {}", if known { family } else { "other" });
    if is_ours(participant) {
        classes.push_str(" ours");
    }
    // monoio has two drivers, the others two interfaces.
    if participant.ends_with("streams") || participant == "monoio epoll" {
        classes.push_str(" streams");
    }
    classes
}

fn is_ours(participant: &str) -> bool {
    participant == PROTOCOL || participant == STREAMS
}

fn size_label(bytes: u64) -> String {
    match bytes {
        0..1024 => bytes.to_string(),
        1024..1_048_576 => format!("{} K", bytes / 1024),
        _ => format!("{} M", bytes / 1_048_576),
    }
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::results::Run;

    #[test]
    fn a_plot_has_a_line_and_a_name_for_each_participant() {
        let run = sample::run();
        for plot in &PLOTS {
            let svg = plot.draw(&Figures::new(&run));
            assert_eq!(svg.matches("<polyline").count(), sample::PARTICIPANTS.len());
            for (participant, _) in sample::PARTICIPANTS {
                assert!(svg.contains(&format!("<title>{participant}</title>")));
                assert!(svg.contains(&format!(">{participant}</text>")));
            }
        }
    }

    #[test]
    fn ours_are_drawn_above_their_peers_and_emphasised() {
        let run = sample::run();
        let svg = PLOTS[0].draw(&Figures::new(&run));
        let lines = svg.lines().filter(|line| line.starts_with("<polyline"));
        let classes: Vec<&str> = lines.filter_map(|line| line.split('"').nth(1)).collect();
        assert_eq!(
            classes[classes.len() - 3..],
            ["line evloop ours", "line evloop ours streams", "line bare"]
        );
        assert_eq!(svg.matches("class=\"strong\"").count(), 2);
    }

    #[test]
    fn a_plot_without_figures_says_so() {
        let run = Run::default();
        let svg = PLOTS[0].draw(&Figures::new(&run));
        assert!(
            svg.contains("not measured") && !svg.contains("NaN"),
            "{svg}"
        );
    }

    #[test]
    fn the_same_ratio_is_the_same_distance() {
        let scale = Scale::over([1.0, 1_000.0].into_iter(), 0.0, 300.0).unwrap();
        let step = |from: f64| scale.at(from * 10.0) - scale.at(from);
        assert!((step(1.0) - step(100.0)).abs() < 1e-9);
        assert_eq!(scale.ticks().len(), 10);
        let alone = Scale::over([5.0].into_iter(), 0.0, 300.0).unwrap();
        assert!((alone.at(5.0) - 150.0).abs() < 1e-9);
    }

    #[test]
    fn sizes_are_written_short() {
        assert_eq!(
            [64, 1024, 102_400, 1 << 20].map(size_label),
            ["64", "1 K", "100 K", "1 M"]
        );
    }
}
