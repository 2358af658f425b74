//! How often intervals cover and gates alarm, simulated: `cargo run --example statistics`. tests/it has a smaller one.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // the figures are its result; a simulation that cannot go on has failed

#[path = "it/statistics.rs"]
mod statistics;

use statistics::{Loss, alarms, coverage};

fn main() {
    println!("{}", report(2_000));
}

/// Both tables, from so many simulated experiments a row.
fn report(experiments: usize) -> String {
    let mut text = format!("{experiments} simulated experiments a row\n\n");
    text += "95 % intervals of a difference            problems like these   these problems   p <= 0.05 when alike\n";
    for (problems, n) in [(164, 20), (164, 1), (62, 20), (164, 5), (500, 10)] {
        let got = coverage(problems, n, experiments);
        let here = got.here.map_or("-".to_owned(), |here| format!("{:.1} %", here * 100.0));
        text += &format!(
            "  {:>4} problems, n {:>2}                          {:>6.1} %   {here:>14}   {:>18.1} %\n",
            problems,
            n,
            got.interval * 100.0,
            got.false_positives * 100.0
        );
    }
    text += "\nnoise gate, alarms                           overall      a problem         either\n";
    for (problems, n) in [(164, 20), (164, 1), (62, 20)] {
        for (points, loss) in [
            (0.0, Loss::Spread),
            (2.0, Loss::Spread),
            (5.0, Loss::Spread),
            (10.0, Loss::Spread),
            (2.0, Loss::Concentrated),
            (5.0, Loss::Concentrated),
            (10.0, Loss::Concentrated),
        ] {
            let (overall, single, either) = alarms(problems, n, points, loss, experiments);
            let loss = if points == 0.0 { "nothing changed".into() } else { format!("{points:>2} points, {loss:?}") };
            text += &format!(
                "  {problems:>4} problems, n {n:>2}, {:<23} {:>6.1} %       {:>6.1} %       {:>6.1} %\n",
                loss.to_lowercase(),
                overall * 100.0,
                single * 100.0,
                either * 100.0
            );
        }
    }
    text
}
