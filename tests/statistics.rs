//! How often intervals cover and gates alarm, simulated: `cargo run --example statistics`. tests/it has a smaller one.
//! It ends with status 1 when a figure is not what the documentation promises.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // the figures are its result; a simulation that cannot go on has failed

#[path = "it/statistics.rs"]
mod statistics;

use std::process::ExitCode;

use passk::score::noise::FALSE_ALARMS;
use statistics::{Kind, Loss, alarms, coverage};

fn main() -> ExitCode {
    let (text, good) = report(2_000);
    println!("{text}");
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Both tables, from so many simulated experiments a row, and whether all is as promised; what is not is marked.
fn report(experiments: usize) -> (String, bool) {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let mut text = format!("{experiments} simulated experiments a row\n\n");
    text += "covered by 95 % intervals        pass@1   difference (told, bare)   of these problems   p <= 0.05 when alike\n";
    for kind in [Kind::Usual, Kind::Hard, Kind::Alike, Kind::Rare] {
        for (problems, n) in [62, 164, 500].into_iter().flat_map(|problems| [1, 5, 20].map(|n| (problems, n))) {
            let got = coverage(kind, problems, n, experiments);
            let mark = if got.is_good(kind) { "" } else { "  <- NOT AS PROMISED" };
            text += &format!(
                "  {:<5}  {problems:>3} problems, n {n:>2}   {:>11}   {:>8} ({:>7}, {:>6})   {:>17}   {:>20}{mark}\n",
                format!("{kind:?}").to_lowercase(),
                percent(got.score),
                percent(got.difference),
                percent(got.told),
                percent(got.bare),
                got.here.map_or("-".to_owned(), percent),
                percent(got.false_positives)
            );
        }
    }
    text += "\ntold: what a comparison says that its interval covers if no problem differs more than those it met, in the mean;\n\
             bare: what Student's t interval would cover.\n\
             Runs of the kind `rare` look like those of the kind `alike` as long as no rare problem was met: an interval\n\
             that covers enough in the one case covers more in the other.\n";
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
            let silent = points > 0.0 || either <= FALSE_ALARMS;
            let mark = if silent { "" } else { "  <- NOT AS PROMISED" };
            let loss = if points == 0.0 { "nothing changed".into() } else { format!("{points:>2} points, {loss:?}") };
            text += &format!(
                "  {problems:>4} problems, n {n:>2}, {:<23} {:>6.1} %       {:>6.1} %       {:>6.1} %{mark}\n",
                loss.to_lowercase(),
                overall * 100.0,
                single * 100.0,
                either * 100.0
            );
        }
    }
    let good = !text.contains("NOT AS PROMISED");
    (text, good)
}
