//! The chart of a comparison: pass@k of each run with its 95 % interval, as SVG and as PNG.
//!
//! Letters come from a font inside the binary, so that a machine without fonts draws the same picture. Colours are
//! those of Okabe & Ito, told apart by colour-blind people, and every run has a marker of its own shape beside.

use std::sync::OnceLock;

use plotters::backend::BitMapBackend;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use crate::compare::Comparison;

/// Of the picture, in pixels.
const SIZE: (u32, u32) = (1200, 720);
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
const FAINT: RGBColor = RGBColor(0xd5, 0xd9, 0xde);

/// Okabe & Ito 2008, without black and the yellow that white swallows.
pub(super) const COLOURS: [(u8, u8, u8); 6] =
    [(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0)];

/// The chart could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("failed to draw the chart: {0}")]
pub struct ChartError(String);

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// As SVG.
///
/// # Errors
/// Nothing a user can cause.
pub fn svg(comparison: &Comparison) -> Result<String, ChartError> {
    let mut text = String::new();
    prepare()?;
    draw(SVGBackend::with_string(&mut text, SIZE).into_drawing_area(), comparison)
        .map_err(|error| ChartError(error.to_string()))?;
    Ok(text)
}

/// As PNG, at `path`: the one exporter that writes by itself, since the library encodes by the file's name.
///
/// # Errors
/// The file cannot be written.
pub fn png(comparison: &Comparison, path: &std::path::Path) -> Result<(), ChartError> {
    prepare()?;
    draw(BitMapBackend::new(path, SIZE).into_drawing_area(), comparison).map_err(|error| ChartError(error.to_string()))
}

fn prepare() -> Result<(), ChartError> {
    static READY: OnceLock<bool> = OnceLock::new();
    let ready = READY.get_or_init(|| {
        let font = epaint_default_fonts::UBUNTU_LIGHT;
        register_font(FONT, FontStyle::Normal, font).is_ok()
    });
    if *ready { Ok(()) } else { Err(ChartError("the font inside the binary is broken".into())) }
}

/// Dots with whiskers, in a group for each k.
fn draw<B>(area: DrawingArea<B, Shift>, comparison: &Comparison) -> Drawn
where
    B: DrawingBackend,
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    let text = |size: i32| (FONT, size).into_font().color(&INK);
    let left = 36;
    area.draw(&Text::new(format!("{} · pass@k", comparison.dataset), (left, 26), text(38)))?;
    let marked = if comparison.unlike.is_empty() { "" } else { "NOT MEASURED ALIKE · " };
    let caption = format!("{marked}mean over problems, with its 95 % interval");
    area.draw(&Text::new(caption, (left, 74), text(22)))?;

    // The legend flows over as many lines as it needs.
    let (mut x, mut y) = (left + 10, 128);
    for (at, run) in comparison.runs.iter().enumerate() {
        let width = 60 + area.estimate_text_size(&run.name, &text(24))?.0 as i32;
        if x + width > SIZE.0 as i32 - 30 && x > left + 10 {
            (x, y) = (left + 10, y + 36);
        }
        mark(&area, at, (x, y))?;
        area.draw(&Text::new(run.name.clone(), (x + 18, y - 10), text(24)))?;
        x += width;
    }

    let highest = comparison.scores.iter().flatten().flatten().map(|score| score.high).fold(0.1, f64::max);
    let top = (highest * 10.0).ceil() / 10.0;
    let groups = comparison.ks.len().max(1) as f64;
    let (plot_left, plot_right) = (110.0, f64::from(SIZE.0) - 40.0);
    let (plot_top, plot_bottom) = (f64::from(y) + 50.0, f64::from(SIZE.1) - 70.0);
    let height = |score: f64| (plot_bottom - score / top * (plot_bottom - plot_top)) as i32;
    let ticks = (top * 10.0).round() as i32;
    let step = if ticks > 5 { 2 } else { 1 };
    for tick in (0..=ticks).step_by(step) {
        let at = height(f64::from(tick) / 10.0);
        area.draw(&PathElement::new(vec![(plot_left as i32, at), (plot_right as i32, at)], FAINT.stroke_width(2)))?;
        let label = text(24).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(format!("{:.1}", f64::from(tick) / 10.0), (plot_left as i32 - 14, at), label))?;
    }
    let group_width = (plot_right - plot_left) / groups;
    let runs = comparison.runs.len().max(1) as f64;
    for (group, k) in comparison.ks.iter().enumerate() {
        let middle = plot_left + group_width * (group as f64 + 0.5);
        let label = text(26).pos(Pos::new(HPos::Center, VPos::Top));
        area.draw(&Text::new(format!("pass@{k}"), (middle as i32, plot_bottom as i32 + 18), label))?;
        for (at, scores) in comparison.scores.iter().enumerate() {
            let Some(score) = &scores[group] else { continue };
            let x = (middle + group_width * 0.74 * ((at as f64 + 0.5) / runs - 0.5)) as i32;
            let (low, high, mean) = (height(score.low), height(score.high), height(score.mean));
            let stroke = colour(at).stroke_width(3);
            area.draw(&PathElement::new(vec![(x, low), (x, high)], stroke))?;
            for end in [low, high] {
                area.draw(&PathElement::new(vec![(x - 7, end), (x + 7, end)], stroke))?;
            }
            mark(&area, at, (x, mean))?;
            if comparison.ks.len() * comparison.runs.len() <= 16 {
                let value = (FONT, 20).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Bottom));
                area.draw(&Text::new(format!("{:.2}", score.mean), (x, high - 8), value))?;
            }
        }
    }
    area.present()?;
    Ok(())
}

fn colour(at: usize) -> RGBColor {
    let (red, green, blue) = COLOURS[at % COLOURS.len()];
    RGBColor(red, green, blue)
}

/// Circle, square, triangle, diamond, in turn.
fn mark<B>(area: &DrawingArea<B, Shift>, at: usize, (x, y): (i32, i32)) -> Drawn
where
    B: DrawingBackend,
    B::ErrorType: 'static,
{
    let fill = colour(at).filled();
    match at % 4 {
        0 => area.draw(&Circle::new((x, y), 9, fill))?,
        1 => area.draw(&Rectangle::new([(x - 8, y - 8), (x + 8, y + 8)], fill))?,
        2 => area.draw(&Polygon::new(vec![(x, y - 10), (x + 10, y + 8), (x - 10, y + 8)], fill))?,
        _ => area.draw(&Polygon::new(vec![(x, y - 11), (x + 11, y), (x, y + 11), (x - 11, y)], fill))?,
    }
    Ok(())
}
