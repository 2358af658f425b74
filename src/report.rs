//! What people read of a comparison. Everything here takes records and returns text or bytes; nothing runs or writes.

pub mod chart;
pub mod html;
pub mod table;

use crate::score::Estimate;

/// Points of 100 with a sign: `+1.2`.
fn points(share: f64) -> String {
    let text = format!("{:+.1}", share * 100.0);
    if text == "-0.0" { "+0.0".into() } else { text.replace('-', "−") }
}

fn p_value(p: f64) -> String {
    match p {
        p if p < 0.0001 => "< 0.0001".into(),
        p if p < 0.01 => format!("{p:.4}"),
        p => format!("{p:.3}"),
    }
}

fn interval(estimate: &Estimate) -> String {
    format!("{:.4} [{:.4}, {:.4}]", estimate.mean, estimate.low, estimate.high)
}

fn percent(part: usize, whole: usize) -> String {
    match whole {
        0 => String::new(),
        whole => format!("{:.1} %", 100.0 * part as f64 / whole as f64),
    }
}

/// Some ids, and how many more there are.
fn listed(ids: &[crate::task::TaskId], most: usize) -> String {
    let mut text: Vec<String> = ids.iter().take(most).map(ToString::to_string).collect();
    if ids.len() > most {
        text.push(format!("and {} more", ids.len() - most));
    }
    text.join(", ")
}
