//! A chart as SVG text: lines in a frame with ticks, or bars with their spread. Pure.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 430.0;
/// The frame that data is drawn in.
const LEFT: f64 = 84.0;
const RIGHT: f64 = WIDTH - 24.0;
const TOP: f64 = 100.0;
const BOTTOM: f64 = HEIGHT - 56.0;
/// Distinct also to eyes that do not see red and green apart.
const COLORS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555"];
const TICKS: f64 = 6.0;
/// So many points of a line are marked each.
const MARKED_MAX: usize = 24;
/// Of a letter of the legend, about.
const LETTER: f64 = 6.2;

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From 0.
    Linear,
    Log,
}

/// One axis; `ticks` beside their texts, or chosen from the data.
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) scale: Scale,
    pub(crate) ticks: Option<Vec<(f64, String)>>,
}

impl Axis {
    /// Its ticks are chosen from the data.
    pub(crate) fn new(label: &str, scale: Scale) -> Self {
        Self {
            label: label.to_owned(),
            scale,
            ticks: None,
        }
    }
}

/// A line through `points`. `None`: nothing was measured there, and the line has a gap.
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) color: usize,
    pub(crate) is_dashed: bool,
    pub(crate) points: Vec<(f64, Option<f64>)>,
}

/// The part of an axis that is drawn.
struct Span {
    scale: Scale,
    least: f64,
    most: f64,
}

impl Span {
    fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let fits = |value: &f64| value.is_finite() && (scale == Scale::Linear || *value > 0.0);
        let (least, most) = values.filter(fits).fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(least, most), value| (least.min(value), most.max(value)),
        );
        match scale {
            Scale::Linear if most > 0.0 => Self {
                scale,
                least: 0.0,
                most: most * 1.08,
            },
            Scale::Log if most > 0.0 => Self {
                scale,
                least: least / 1.2,
                most: most * 1.2,
            },
            _ => Self {
                scale,
                least: 0.1,
                most: 1.0,
            },
        }
    }

    /// 0 at the least, 1 at the most.
    fn share(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.least) / (self.most - self.least),
            Scale::Log => (value / self.least).ln() / (self.most / self.least).ln(),
        };
        share.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        let values = match self.scale {
            Scale::Linear => linear_ticks(self.least, self.most),
            Scale::Log => log_ticks(self.least, self.most),
        };
        values
            .into_iter()
            .map(|value| (value, short(value)))
            .collect()
    }
}

/// 1, 2 or 5 times a power of ten apart.
fn linear_ticks(least: f64, most: f64) -> Vec<f64> {
    let rough = (most - least) / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    let first = (least / step).ceil() as i64;
    let last = (most / step + 1e-9).floor() as i64;
    (first..=last).map(|index| index as f64 * step).collect()
}

/// Powers of ten, with others between where there are few.
fn log_ticks(least: f64, most: f64) -> Vec<f64> {
    let powers = least.log10().floor() as i32..=most.log10().ceil() as i32;
    let factors: &[f64] = match (most / least).log10() {
        decades if decades > 3.2 => &[1.0],
        decades if decades > 0.9 => &[1.0, 2.0, 5.0],
        _ => &[1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
    };
    powers
        .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
        .filter(|value| (least..=most).contains(value))
        .collect()
}

/// `1.5k`, `2M`, `0.25`.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The text of an SVG file under way.
struct Drawing {
    text: String,
}

impl Drawing {
    fn begin(title: &str, below: &str) -> Self {
        let mut drawing = Self {
            text: format!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="black"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>"#
            ),
        };
        drawing.text_at(LEFT, 24.0, "start", "16", title);
        drawing.text_at(LEFT, 42.0, "start", "11", below);
        drawing
    }

    fn text_at(&mut self, x: f64, y: f64, anchor: &str, size: &str, text: &str) {
        let text = escape(text);
        self.put(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}">{text}</text>"#
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{stroke}"/>"#
        ));
    }

    fn put(&mut self, part: std::fmt::Arguments<'_>) {
        self.text
            .write_fmt(part)
            .expect("a String takes every write");
    }

    fn end(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

/// Lines in a frame, with a legend above it.
pub(crate) fn lines(title: &str, below: &str, x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_ticks = x.ticks.iter().flatten().map(|(value, _)| *value);
    let x_span = Span::of(x.scale, points().map(|(x, _)| *x).chain(x_ticks));
    let y_span = Span::of(y.scale, points().filter_map(|(_, y)| *y));
    let x_at = |value: f64| LEFT + x_span.share(value) * (RIGHT - LEFT);
    let y_at = |value: f64| BOTTOM - y_span.share(value) * (BOTTOM - TOP);

    let mut drawing = Drawing::begin(title, below);
    for (value, text) in y_span.ticks() {
        drawing.line((LEFT, y_at(value)), (RIGHT, y_at(value)), "#e4e4e4");
        drawing.text_at(LEFT - 6.0, y_at(value) + 4.0, "end", "11", &text);
    }
    for (value, text) in x.ticks.clone().unwrap_or_else(|| x_span.ticks()) {
        drawing.line((x_at(value), BOTTOM), (x_at(value), BOTTOM + 5.0), "#222");
        drawing.text_at(x_at(value), BOTTOM + 19.0, "middle", "11", &text);
    }
    drawing.line((LEFT, BOTTOM), (RIGHT, BOTTOM), "#222");
    drawing.text_at(
        (LEFT + RIGHT) / 2.0,
        HEIGHT - 14.0,
        "middle",
        "12",
        &x.label,
    );
    drawing.text_at(LEFT, TOP - 8.0, "end", "12", &y.label);
    legend(&mut drawing, lines);
    for line in lines {
        let drawn = |point: &&[(f64, Option<f64>)]| !point.is_empty();
        for piece in line.points.split(|(_, y)| y.is_none()).filter(drawn) {
            let places = piece
                .iter()
                .filter_map(|(x, y)| Some((x_at(*x), y_at((*y)?))));
            polyline(&mut drawing, line, places);
        }
    }
    drawing.end()
}

fn polyline(drawing: &mut Drawing, line: &Line, places: impl Iterator<Item = (f64, f64)>) {
    let places: Vec<(f64, f64)> = places.collect();
    let color = COLORS[line.color % COLORS.len()];
    if let [(x, y)] = places[..] {
        drawing.put(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{color}"/>"#
        ));
        return;
    }
    let mut text = String::new();
    for (x, y) in &places {
        write!(text, "{x:.1},{y:.1} ").expect("a String takes every write");
    }
    let dashes = dashes(line);
    drawing.put(format_args!(
        r#"<polyline points="{}" fill="none" stroke="{color}" stroke-width="2"{dashes}/>"#,
        text.trim_end()
    ));
    if places.len() <= MARKED_MAX {
        for (x, y) in places {
            drawing.put(format_args!(
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{color}"/>"#
            ));
        }
    }
}

/// Above the frame, in as many rows as it takes.
fn legend(drawing: &mut Drawing, lines: &[Line]) {
    let (mut x, mut y) = (LEFT + 8.0, 60.0);
    for line in lines {
        let color = COLORS[line.color % COLORS.len()];
        let width = 27.0 + LETTER * line.label.chars().count() as f64 + 18.0;
        if x + width > RIGHT {
            (x, y) = (LEFT + 8.0, y + 15.0);
        }
        let dashes = dashes(line);
        drawing.put(format_args!(
            r#"<line x1="{x:.1}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}" stroke="{color}" stroke-width="2"{dashes}/>"#,
            x + 22.0
        ));
        drawing.text_at(x + 27.0, y + 4.0, "start", "11", &line.label);
        x += width;
    }
}

fn dashes(line: &Line) -> &'static str {
    match line.is_dashed {
        true => r#" stroke-dasharray="6 4""#,
        false => "",
    }
}

/// One bar: where it ends, and its spread.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Horizontal bars from `base` on, on a log scale, so that twice and half are equally long.
pub(crate) fn bars(title: &str, below: &str, base: f64, bars: &[Bar]) -> String {
    const NAMES: f64 = 220.0;
    let ends = bars.iter().flat_map(|bar| [bar.least, bar.most]);
    let span = Span::of(Scale::Log, ends.chain([base / 1.5, base * 1.5]));
    let x_at = |value: f64| NAMES + span.share(value) * (RIGHT - 60.0 - NAMES);
    let room = (BOTTOM - TOP) / bars.len().max(1) as f64;
    let thick = (room * 0.55).min(26.0);

    let mut drawing = Drawing::begin(title, below);
    for (value, text) in span.ticks() {
        drawing.line((x_at(value), TOP), (x_at(value), BOTTOM), "#e4e4e4");
        drawing.text_at(x_at(value), BOTTOM + 19.0, "middle", "11", &text);
    }
    for (index, bar) in bars.iter().enumerate() {
        let middle = TOP + (index as f64 + 0.5) * room;
        let color = if bar.value >= base {
            COLORS[0]
        } else {
            COLORS[1]
        };
        let (from, to) = (x_at(bar.value.min(base)), x_at(bar.value.max(base)));
        drawing.put(format_args!(
            r#"<rect x="{from:.1}" y="{:.1}" width="{:.1}" height="{thick:.1}" fill="{color}"/>"#,
            middle - thick / 2.0,
            (to - from).max(1.0)
        ));
        let (least, most) = (x_at(bar.least), x_at(bar.most));
        drawing.line((least, middle), (most, middle), "#222");
        for end in [least, most] {
            drawing.line((end, middle - 5.0), (end, middle + 5.0), "#222");
        }
        drawing.text_at(NAMES - 10.0, middle + 4.0, "end", "12", &bar.label);
        let told = format!("{:.2}", bar.value);
        drawing.text_at(most.max(to) + 6.0, middle + 4.0, "start", "12", &told);
    }
    drawing.line((x_at(base), TOP), (x_at(base), BOTTOM), "#222");
    drawing.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(label: &str, points: &[(f64, Option<f64>)]) -> Line {
        Line {
            label: label.to_owned(),
            color: 0,
            is_dashed: false,
            points: points.to_vec(),
        }
    }

    /// Every number in an attribute of this name.
    fn numbers(svg: &str, attribute: &str) -> Vec<f64> {
        svg.split(&format!(r#" {attribute}=""#))
            .skip(1)
            .filter_map(|rest| rest.split('"').next()?.parse().ok())
            .collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(linear_ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(linear_ticks(0.0, 0.3).len(), 7);
        assert_eq!(log_ticks(0.9, 11.0), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!(
            log_ticks(1.0, 10_000.0),
            [1.0, 10.0, 100.0, 1_000.0, 10_000.0]
        );
        let texts = [0.25, 1_500.0, 2e6, 40.0].map(short);
        assert_eq!(texts, ["0.25", "1.5k", "2M", "40"]);
    }

    #[test]
    fn lines_stay_in_the_frame_and_gaps_stay_open() {
        let points = [
            (0.0, Some(5.0)),
            (1.0, Some(2_000.0)),
            (2.0, None),
            (3.0, Some(1.0)),
            (4.0, Some(9.0)),
        ];
        let svg = lines(
            "a title",
            "below",
            &Axis::new("s", Scale::Linear),
            &Axis::new("us", Scale::Log),
            &[line("one", &points)],
        );
        assert_eq!(svg.matches("<polyline").count(), 2);
        let places = svg.split(r#"points=""#).skip(1);
        for pair in places.flat_map(|rest| rest.split('"').next().unwrap_or_default().split(' ')) {
            let (x, y) = pair.split_once(',').unwrap_or_default();
            let (x, y) = (x.parse().unwrap_or(-1.0), y.parse().unwrap_or(-1.0));
            assert!(
                (LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y),
                "{pair}"
            );
        }
    }

    #[test]
    fn names_are_escaped_and_nothing_to_draw_is_a_chart_too() {
        let svg = lines(
            r#"a <b> & "c""#,
            "",
            &Axis::new("s", Scale::Linear),
            &Axis::new("us", Scale::Log),
            &[line("none", &[])],
        );
        assert!(svg.contains("a &lt;b&gt; &amp; &quot;c&quot;"));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn bars_begin_at_the_base() {
        let bar = |value: f64| Bar {
            label: format!("{value}"),
            value,
            least: value / 2.0,
            most: value * 2.0,
        };
        let svg = bars("ratios", "", 1.0, &[bar(0.5), bar(1.0), bar(4.0)]);
        let (x, widths) = (numbers(&svg, "x"), numbers(&svg, "width"));
        let (half, four) = (widths[widths.len() - 3], widths[widths.len() - 1]);
        assert!((four / half - 2.0).abs() < 0.02, "{four} {half}");
        assert!(x.iter().all(|x| (0.0..=WIDTH).contains(x)));
        assert!(!bars("none", "", 1.0, &[]).contains("NaN"));
    }
}
