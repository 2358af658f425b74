//! LLaMA's `tokenizer.model`: byte-pair encoding as SentencePiece does it.
//!
//! SentencePiece merges the neighbours whose union is the best-scored piece, and of equals the leftmost. Converted to
//! `tokenizers`' ranked pairs a model encodes nearly every text alike; rarely, and mostly in long runs of spaces, it
//! chooses another token (one text of 1,500 in a trial). Code has such runs, so the few rules that LLaMA's models need
//! are followed here, after src/bpe_model.cc and src/normalizer.cc; a model that needs others is refused.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use prost::Message;

/// What stands for a space in pieces.
const SPACE: char = '\u{2581}';

// The fields of sentencepiece_model.proto that are read.

#[derive(Clone, PartialEq, Message)]
struct WireModel {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<WirePiece>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<WireTrainer>,
    #[prost(message, optional, tag = "3")]
    normalizer_spec: Option<WireNormalizer>,
}

#[derive(Clone, PartialEq, Message)]
struct WirePiece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3", default = "1")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct WireTrainer {
    #[prost(int32, optional, tag = "3", default = "1")]
    model_type: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    treat_whitespace_as_suffix: Option<bool>,
    #[prost(int32, optional, tag = "41", default = "1")]
    bos_id: Option<i32>,
    #[prost(int32, optional, tag = "42", default = "2")]
    eos_id: Option<i32>,
    #[prost(string, optional, tag = "44", default = " \u{2047} ")]
    unk_surface: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct WireNormalizer {
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3", default = "true")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4", default = "true")]
    remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5", default = "true")]
    escape_whitespaces: Option<bool>,
}

const BPE: i32 = 2;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Byte(u8),
}

/// A tokenizer read from a `tokenizer.model`.
pub(super) struct SentencePiece {
    pieces: Vec<(String, Kind)>,
    /// What text may be merged into: id and score.
    merged: HashMap<String, (u32, f32)>,
    /// Pieces that are found in the text as they are, longest first.
    user_defined: Vec<(String, u32)>,
    /// The id of each byte; none if the model knows no bytes.
    bytes: Option<Box<[u32; 256]>>,
    unknown: u32,
    unknown_text: String,
    dummy_prefix: bool,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
}

impl SentencePiece {
    /// Reads the protocol buffer that SentencePiece's trainer writes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<SentencePiece, String> {
        // Llama 3 gives the name to lines of base64, for tiktoken.
        if bytes.iter().take(64).all(|byte| byte.is_ascii_graphic() || b" \r\n".contains(byte)) {
            return Err("it is in tiktoken's format (Llama 3's): put the model's tokenizer.json beside it".into());
        }
        let model = WireModel::decode(bytes).map_err(|error| format!("it is no SentencePiece model: {error}"))?;
        let trainer = model.trainer_spec.unwrap_or_default();
        let normalizer = model.normalizer_spec.unwrap_or_default();
        let remedy = "put the model's tokenizer.json beside it";
        for (refused, what) in [
            (trainer.model_type() != BPE, "it is not of the BPE kind"),
            (trainer.treat_whitespace_as_suffix(), "it puts spaces after words"),
            (!normalizer.precompiled_charsmap().is_empty(), "it rewrites text before it is encoded"),
            (normalizer.remove_extra_whitespaces(), "it drops spaces, and with them the indentation of code"),
            (!normalizer.escape_whitespaces(), "it does not mark spaces"),
        ] {
            if refused {
                return Err(format!("{what}, as no LLaMA's does: {remedy}"));
            }
        }

        let mut this = SentencePiece {
            pieces: Vec::with_capacity(model.pieces.len()),
            merged: HashMap::new(),
            user_defined: Vec::new(),
            bytes: None,
            unknown: u32::MAX,
            unknown_text: trainer.unk_surface().to_owned(),
            dummy_prefix: normalizer.add_dummy_prefix(),
            bos: None,
            eos: None,
        };
        let mut bytes = [None; 256];
        for (id, wire) in (0_u32..).zip(model.pieces) {
            let (kind, score) = (kind(&wire)?, wire.score());
            let text = wire.piece.unwrap_or_default();
            match kind {
                Kind::Normal | Kind::UserDefined => {
                    if this.merged.insert(text.clone(), (id, score)).is_some() {
                        return Err(format!("it has the piece `{text}` twice"));
                    }
                    if kind == Kind::UserDefined && !text.is_empty() {
                        this.user_defined.push((text.clone(), id));
                    }
                }
                Kind::Unknown => this.unknown = id,
                Kind::Byte(byte) => bytes[usize::from(byte)] = Some(id),
                Kind::Control => {}
            }
            this.pieces.push((text, kind));
        }
        if this.unknown == u32::MAX {
            return Err("it has no piece for what is unknown".into());
        }
        this.user_defined.sort_by_key(|(text, _)| Reverse(text.len()));
        this.bytes = all(bytes);
        let special = |id: i32| u32::try_from(id).ok().filter(|&id| (id as usize) < this.pieces.len());
        (this.bos, this.eos) = (special(trainer.bos_id()), special(trainer.eos_id()));
        Ok(this)
    }

    /// The ids of a text, without BOS.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        if text.is_empty() {
            return Vec::new();
        }
        let prefix = if self.dummy_prefix { " " } else { "" };
        let text: String = [prefix, text].concat().replace(' ', SPACE.encode_utf8(&mut [0; 4]));
        let mut ids = Vec::new();
        let mut after_unknown = false;
        for piece in self.merge(&text) {
            let known = self.merged.get(piece).map(|(id, _)| *id);
            match (known, &self.bytes) {
                (Some(id), _) => ids.push(id),
                (None, Some(bytes)) => ids.extend(piece.bytes().map(|byte| bytes[usize::from(byte)])),
                // A run of unknown pieces is one.
                (None, None) if !after_unknown => ids.push(self.unknown),
                (None, None) => {}
            }
            after_unknown = known.is_none() && self.bytes.is_none();
        }
        ids
    }

    /// The text of ids; special ones have none. One space at the very beginning is the encoder's own.
    pub(super) fn decode(&self, ids: &[u32]) -> Result<String, String> {
        let mut text = String::new();
        let mut bytes = Vec::new();
        let mut stripped = false;
        for &id in ids {
            let Some((piece, kind)) = self.pieces.get(id as usize) else {
                return Err(format!("{id} is none of its {} ids", self.pieces.len()));
            };
            if let Kind::Byte(byte) = kind {
                bytes.push(*byte);
                continue;
            }
            put_bytes(&mut bytes, &mut text);
            match kind {
                Kind::Control => {}
                Kind::Unknown => text += &self.unknown_text,
                _ => {
                    let first = self.dummy_prefix && !stripped && text.is_empty();
                    let rest = piece.strip_prefix(SPACE).filter(|_| first);
                    stripped |= rest.is_some();
                    text.extend(rest.unwrap_or(piece).chars().map(|c| if c == SPACE { ' ' } else { c }));
                }
            }
        }
        put_bytes(&mut bytes, &mut text);
        Ok(text)
    }

    /// Splits `text` into characters and merges neighbours while any two make a piece.
    fn merge<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> + use<'t> {
        let mut symbols = self.symbols(text);
        let mut queue = BinaryHeap::new();
        let propose = |symbols: &[Symbol], left: Option<usize>, right: Option<usize>, queue: &mut BinaryHeap<Pair>| {
            let (Some(left), Some(right)) = (left, right) else { return };
            if symbols[left].frozen || symbols[right].frozen {
                return;
            }
            let end = symbols[right].end;
            if let Some(&(_, score)) = self.merged.get(&text[symbols[left].start..end]) {
                queue.push(Pair { score, left, right, end });
            }
        };
        for right in 1..symbols.len() {
            propose(&symbols, Some(right - 1), Some(right), &mut queue);
        }
        while let Some(Pair { left, right, end, .. }) = queue.pop() {
            // One of the two may have been merged with another meanwhile.
            let now = (symbols[left].next, symbols[right].end);
            if symbols[left].gone || symbols[right].gone || now != (Some(right), end) {
                continue;
            }
            let next = symbols[right].next;
            symbols[left].end = end;
            symbols[left].next = next;
            symbols[right].gone = true;
            if let Some(next) = next {
                symbols[next].previous = Some(left);
            }
            propose(&symbols, symbols[left].previous, Some(left), &mut queue);
            propose(&symbols, Some(left), next, &mut queue);
        }
        symbols.into_iter().filter(|symbol| !symbol.gone).map(|symbol| &text[symbol.start..symbol.end])
    }

    fn symbols(&self, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut start = 0;
        while let Some(c) = text[start..].chars().next() {
            let whole = self.user_defined.iter().find(|(piece, _)| text[start..].starts_with(piece.as_str()));
            let end = start + whole.map_or(c.len_utf8(), |(piece, _)| piece.len());
            let at = symbols.len();
            let (previous, next) = (at.checked_sub(1), (end < text.len()).then_some(at + 1));
            symbols.push(Symbol { start, end, previous, next, frozen: whole.is_some(), gone: false });
            start = end;
        }
        symbols
    }
}

/// A stretch of the text, in a list that is linked both ways.
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
    frozen: bool,
    gone: bool,
}

/// Two neighbours that make a piece. The greatest has the best score, and of equals stands leftmost.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Where the union ends: tells whether `right` is still what it was.
    end: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

fn kind(wire: &WirePiece) -> Result<Kind, String> {
    Ok(match wire.kind() {
        1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        6 => {
            let digits = wire.piece().strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            Kind::Byte(byte.ok_or_else(|| format!("its piece `{}` is no byte", wire.piece()))?)
        }
        other => return Err(format!("its piece `{}` is of kind {other}, as no LLaMA's is", wire.piece())),
    })
}

/// All 256 ids, or none.
fn all(bytes: [Option<u32>; 256]) -> Option<Box<[u32; 256]>> {
    let ids: Option<Vec<u32>> = bytes.into_iter().collect();
    ids?.try_into().ok().map(Box::new)
}

/// Moves bytes to the text, with a replacement character for each that is part of none.
fn put_bytes(bytes: &mut Vec<u8>, text: &mut String) {
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let character = (1..=rest.len().min(4)).find_map(|length| std::str::from_utf8(&rest[..length]).ok());
        text.push_str(character.unwrap_or("\u{FFFD}"));
        rest = &rest[character.map_or(1, str::len)..];
    }
    bytes.clear();
}
