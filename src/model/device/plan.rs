//! What a device is told of a step's rows.

use std::collections::HashMap;

use super::counts::Counts;
use super::ops::{NONE, Places};
use crate::model::cache::Span;
use crate::model::{Picked, Row};

/// The numbers that go along with a forward; see [`Places`].
pub(super) fn plan(rows: &[Row], picked: Picked, counts: &Counts) -> (Vec<u32>, Places) {
    let (count, picks) = (counts.padded(rows.len()), picked.len(rows.len()));
    let mut plan = Vec::with_capacity(2 * count + 6 * counts.padded(picks));
    for row in rows {
        plan.extend([row.position as u32, row.own.slot(row.position - row.prefix.len()) as u32]);
    }
    plan.resize(2 * count, NONE);
    let queries = plan.len();
    let mut blocks: Vec<u32> = Vec::new();
    let mut begins: HashMap<usize, u32> = HashMap::new();
    let mut begin = |span: &Span| {
        *begins.entry(std::ptr::from_ref(span).addr()).or_insert_with(|| {
            blocks.extend(span.blocks().iter().map(|&block| block as u32));
            (blocks.len() - span.blocks().len()) as u32
        })
    };
    for i in 0..picks {
        let row = &rows[picked.row(i)];
        let own = row.position + 1 - row.prefix.len();
        let (prefix, len) = (begin(row.prefix), row.prefix.len() as u32);
        plan.extend([picked.row(i) as u32, prefix, len, begin(row.own), own as u32]);
    }
    plan.resize(queries + 5 * counts.padded(picks), NONE);
    let order = plan.len();
    let mut together: Vec<usize> = (0..picks).collect();
    together.sort_by_key(|&i| std::ptr::from_ref(rows[picked.row(i)].prefix).addr());
    plan.extend(together.into_iter().map(|i| i as u32));
    plan.extend(picks as u32..counts.padded(picks) as u32);
    let places = Places { queries, order, blocks: plan.len(), picked: counts.padded(picks) };
    plan.extend(blocks);
    (plan, places)
}
