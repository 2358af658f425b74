//! A reader of Python pickles that runs nothing.
//!
//! A pickle is a program for a stack machine. This machine knows the opcodes that build plain
//! data, protocols 2 to 5. Where Python would import a class and call it, an inert [`Object`]
//! records what would have been called with what; the caller decides which of those it knows.
//!
//! Every value lives in one arena and containers hold indices into it. Aliases are therefore
//! shared, cycles are harmless, and neither building nor dropping ever recurses, however deep a
//! hostile file nests. Lengths are checked against what is left of the input before use, and
//! the number of opcodes is bounded, which bounds memory.

use std::collections::HashMap;

/// About 30 000 tensors' worth; a 6.7 B model and its optimizer need a thirtieth of it.
const MAX_OPCODES: usize = 1 << 20;

/// A value: a scalar, or an index into [`Pickle`]'s arena.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits: nothing here has use for one.
    BigInt,
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    Node(usize),
}

/// What needs more room than a scalar.
#[derive(Debug)]
enum Node<'a> {
    /// A list, tuple or set.
    Sequence(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Global(&'a str, &'a str),
    Object(Box<Object<'a>>),
    Persistent(Value<'a>),
}

/// A call Python would have made, and what was then put into its result.
#[derive(Debug)]
pub(super) struct Object<'a> {
    callee: Value<'a>,
    args: Value<'a>,
    /// What `__setstate__` would have been given.
    pub(super) state: Option<Value<'a>>,
    items: Vec<(Value<'a>, Value<'a>)>,
}

/// Why a pickle could not be read, and at which byte.
#[derive(Debug, thiserror::Error)]
#[error("{trouble} at byte {at} of the pickle")]
pub(super) struct PickleError {
    at: usize,
    trouble: &'static str,
}

/// A pickle that has been read: its root value and the arena that values refer to.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    pub(super) root: Value<'a>,
}

impl<'a> Pickle<'a> {
    /// Reads `input` up to its STOP opcode.
    pub(super) fn read(input: &'a [u8]) -> Result<Self, PickleError> {
        let mut machine =
            Machine { input, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), nodes: Vec::new() };
        let failed = |at| move |trouble| PickleError { at, trouble };
        for _ in 0..MAX_OPCODES {
            let at = machine.at;
            if let Some(root) = machine.step().map_err(failed(at))? {
                let nodes = machine.nodes;
                return Ok(Self { nodes, root });
            }
        }
        Err(failed(machine.at)("too many values"))
    }

    fn node(&self, value: Value<'a>) -> Option<&Node<'a>> {
        match value {
            Value::Node(index) => self.nodes.get(index),
            _ => None,
        }
    }

    /// The members of a list, tuple or set.
    pub(super) fn sequence(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.node(value)? {
            Node::Sequence(members) => Some(members),
            _ => None,
        }
    }

    /// The entries of a dict, or of an object filled like one (`OrderedDict`), in order.
    pub(super) fn entries(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.node(value)? {
            Node::Dict(entries) => Some(entries),
            Node::Object(object) if !object.items.is_empty() => Some(&object.items),
            Node::Object(_) if self.calls(value, "collections", &["OrderedDict"]).is_some() => Some(&[]),
            _ => None,
        }
    }

    /// The value of `key` in a dict; the last one given, as in Python.
    pub(super) fn get(&self, dict: Value<'a>, key: &str) -> Option<Value<'a>> {
        let entries = self.entries(dict)?.iter().rev();
        entries.filter(|(k, _)| matches!(k, Value::Str(k) if *k == key)).map(|(_, value)| *value).next()
    }

    /// Module and name of a class or function.
    pub(super) fn global(&self, value: Value<'a>) -> Option<(&'a str, &'a str)> {
        match self.node(value)? {
            Node::Global(module, name) => Some((module, name)),
            _ => None,
        }
    }

    /// A call not made.
    pub(super) fn object(&self, value: Value<'a>) -> Option<&Object<'a>> {
        match self.node(value)? {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Module and name of what an object would have been made by.
    pub(super) fn maker(&self, value: Value<'a>) -> Option<(&'a str, &'a str)> {
        self.global(self.object(value)?.callee)
    }

    /// The arguments, if `value` is a call of one of `names` in `module`.
    pub(super) fn calls(&self, value: Value<'a>, module: &str, names: &[&str]) -> Option<&[Value<'a>]> {
        let (m, name) = self.maker(value)?;
        (m == module && names.contains(&name)).then(|| self.sequence(self.object(value)?.args))?
    }

    /// What a persistent id refers to; torch stores its storages outside of the pickle.
    pub(super) fn persistent(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.node(value)? {
            Node::Persistent(id) => self.sequence(*id),
            _ => None,
        }
    }
}

/// The stack machine. A step's error is its trouble alone; `Pickle::read` adds where.
struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at each MARK not yet consumed.
    marks: Vec<usize>,
    memo: HashMap<usize, Value<'a>>,
    nodes: Vec<Node<'a>>,
}

type Step<T> = Result<T, &'static str>;

impl<'a> Machine<'a> {
    /// One opcode; the root value at STOP.
    fn step(&mut self) -> Step<Option<Value<'a>>> {
        let [opcode] = self.array()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            // PROTO and FRAME: the opcodes say all there is to know.
            0x80 => drop(self.array::<1>()?),
            0x95 => drop(self.array::<8>()?),

            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.stack.push(self.top()?),

            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'J' => self.integer::<4>(|b| i32::from_le_bytes(b).into())?,
            b'K' => self.integer::<1>(|b| b[0].into())?,
            b'M' => self.integer::<2>(|b| u16::from_le_bytes(b).into())?,
            0x8a => self.long::<1>()?,
            0x8b => self.long::<4>()?,
            b'G' => {
                let float = f64::from_be_bytes(self.array()?);
                self.stack.push(Value::Float(float));
            }
            0x8c => self.text::<1>()?,
            b'X' => self.text::<4>()?,
            0x8d => self.text::<8>()?,
            b'C' | b'U' => self.bytes::<1>()?,
            b'B' | b'T' => self.bytes::<4>()?,
            0x8e => self.bytes::<8>()?,

            b']' | b')' | 0x8f => self.push_node(Node::Sequence(Vec::new())),
            b'}' => self.push_node(Node::Dict(Vec::new())),
            b'l' | b't' | 0x91 => {
                let members = self.pop_to_mark()?;
                self.push_node(Node::Sequence(members));
            }
            b'd' => {
                let members = self.pop_to_mark()?;
                self.push_node(Node::Dict(pairs(&members)?));
            }
            0x85..=0x87 => {
                let mut members = Vec::with_capacity(3);
                for _ in 0x85..=opcode {
                    members.push(self.pop()?);
                }
                members.reverse();
                self.push_node(Node::Sequence(members));
            }
            b'a' => {
                let member = self.pop()?;
                self.extend(&[member])?;
            }
            b'e' | 0x90 => {
                let members = self.pop_to_mark()?;
                self.extend(&members)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.insert(vec![(key, value)])?;
            }
            b'u' => {
                let members = self.pop_to_mark()?;
                self.insert(pairs(&members)?)?;
            }

            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_node(Node::Global(module, name));
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Str(name), Value::Str(module)) => self.push_node(Node::Global(module, name)),
                _ => return Err("a class without a name"),
            },
            // REDUCE and NEWOBJ; NEWOBJ_EX, whose keyword arguments nothing here reads
            b'R' | 0x81 | 0x92 => {
                if opcode == 0x92 {
                    self.pop()?;
                }
                let args = self.pop()?;
                let callee = self.pop()?;
                let (state, items) = (None, Vec::new());
                self.push_node(Node::Object(Box::new(Object { callee, args, state, items })));
            }
            b'b' => {
                let state = self.pop()?;
                if let Some(Node::Object(object)) = self.top_node()? {
                    object.state = Some(state);
                }
            }
            b'Q' => {
                let id = self.pop()?;
                self.push_node(Node::Persistent(id));
            }

            b'q' => self.memoize::<1>()?,
            b'r' => self.memoize::<4>()?,
            0x94 => drop(self.memo.insert(self.memo.len(), self.top()?)),
            b'h' => self.recall::<1>()?,
            b'j' => self.recall::<4>()?,
            _ => return Err("an unknown opcode"),
        }
        Ok(None)
    }

    fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or("an unexpected end")?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| "an unexpected end")
    }

    /// A little-endian unsigned number of N bytes, N ≤ 8.
    fn number<const N: usize>(&mut self) -> Step<usize> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.array::<N>()?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| "an unexpected end")
    }

    /// The rest of the line, without its end.
    fn line(&mut self) -> Step<&'a str> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&b| b == b'\n').ok_or("an unexpected end")?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| "text that is not UTF-8")
    }

    fn integer<const N: usize>(&mut self, convert: fn([u8; N]) -> i64) -> Step<()> {
        let value = convert(self.array()?);
        self.stack.push(Value::Int(value));
        Ok(())
    }

    /// A little-endian two's complement integer of any length.
    fn long<const N: usize>(&mut self) -> Step<()> {
        let length = self.number::<N>()?;
        let bytes = self.take(length)?;
        self.stack.push(if length <= 8 {
            let negative = bytes.last().is_some_and(|&b| b >= 0x80);
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            wide[..length].copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(wide))
        } else {
            Value::BigInt
        });
        Ok(())
    }

    fn text<const N: usize>(&mut self) -> Step<()> {
        let length = self.number::<N>()?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "text that is not UTF-8")?;
        self.stack.push(Value::Str(text));
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Step<()> {
        let length = self.number::<N>()?;
        let bytes = self.take(length)?;
        self.stack.push(Value::Bytes(bytes));
        Ok(())
    }

    fn memoize<const N: usize>(&mut self) -> Step<()> {
        let slot = self.number::<N>()?;
        self.memo.insert(slot, self.top()?);
        Ok(())
    }

    fn recall<const N: usize>(&mut self) -> Step<()> {
        let slot = self.number::<N>()?;
        self.stack.push(*self.memo.get(&slot).ok_or("an empty memo")?);
        Ok(())
    }

    fn push_node(&mut self, node: Node<'a>) {
        self.stack.push(Value::Node(self.nodes.len()));
        self.nodes.push(node);
    }

    /// The top of the stack; what lies under the last MARK is out of reach.
    fn top(&self) -> Step<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(|reach| reach.last()).copied().ok_or("an empty stack")
    }

    fn pop(&mut self) -> Step<Value<'a>> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Value<'a>>> {
        let height = self.marks.pop().ok_or("a missing mark")?;
        Ok(self.stack.split_off(height))
    }

    /// The node on top of the stack; `None` for a scalar.
    fn top_node(&mut self) -> Step<Option<&mut Node<'a>>> {
        match self.top()? {
            Value::Node(index) => Ok(self.nodes.get_mut(index)),
            _ => Ok(None),
        }
    }

    /// Adds members to the list or set on top of the stack; an object keeps only its entries.
    fn extend(&mut self, members: &[Value<'a>]) -> Step<()> {
        match self.top_node()? {
            Some(Node::Sequence(list)) => list.extend_from_slice(members),
            Some(Node::Object(_)) => {}
            _ => return Err("members of something that is no list"),
        }
        Ok(())
    }

    fn insert(&mut self, entries: Vec<(Value<'a>, Value<'a>)>) -> Step<()> {
        match self.top_node()? {
            Some(Node::Dict(dict)) => dict.extend(entries),
            Some(Node::Object(object)) => object.items.extend(entries),
            _ => return Err("entries of something that is no dict"),
        }
        Ok(())
    }
}

fn pairs<'a>(members: &[Value<'a>]) -> Step<Vec<(Value<'a>, Value<'a>)>> {
    let (pairs, []) = members.as_chunks::<2>() else {
        return Err("a key without a value");
    };
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(input: &[u8]) -> String {
        Pickle::read(input).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn hostile_pickles_give_errors() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "an unexpected end at byte 0"),
            (b".", "an empty stack"),
            (b"t.", "a missing mark"),
            (b"\x85.", "an empty stack"),
            (b"N(\x85.", "an empty stack"), // reaches under its mark
            (b"(NR.", "an empty stack"),
            (b"}(Nu.", "a key without a value"),
            (b"}Na.", "members of something that is no list"),
            (b"]NNs.", "entries of something that is no dict"),
            (b"h\x07.", "an empty memo"),
            (b"X\xff\xff\xff\xffab", "an unexpected end"),
            (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffab", "an unexpected end"),
            (b"\x8b\xff\xff\xff\xff", "an unexpected end"),
            (b"X\x01\x00\x00\x00\xff.", "not UTF-8"),
            (b"cos\nsystem", "an unexpected end"),
            (b"NN\x93.", "a class without a name"),
            (b"i", "an unknown opcode"),
        ];
        for (input, expected) in cases {
            let message = error(input);
            assert!(message.contains(expected), "{input:?}: {message}");
        }
        assert!(error(&vec![b'N'; MAX_OPCODES + 1]).contains("too many values"));
    }

    #[test]
    fn deep_and_cyclic_values_are_read_and_dropped() {
        let depth = 500_000;
        let deep = [vec![b']'; depth], vec![b'a'; depth - 1], vec![b'.']].concat();
        let pickle = Pickle::read(&deep).unwrap();
        assert_eq!(pickle.sequence(pickle.root).unwrap().len(), 1);

        let own_member = Pickle::read(b"]q\x00h\x00a.").unwrap();
        let members = own_member.sequence(own_member.root).unwrap();
        assert_eq!(own_member.sequence(members[0]).unwrap().len(), 1);
    }

    #[test]
    fn integers() {
        let cases: &[(&[u8], i64)] = &[
            (b"K\xff.", 255),
            (b"M\x00\x01.", 256),
            (b"J\xff\xff\xff\xff.", -1),
            (b"\x8a\x00.", 0),
            (b"\x8a\x01\x80.", -128),
            (b"\x8a\x02\x80\x00.", 128),
            (b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.", i64::MIN),
        ];
        for (input, expected) in cases {
            let root = Pickle::read(input).unwrap().root;
            assert!(matches!(root, Value::Int(i) if i == *expected), "{input:?}: {root:?}");
        }
        let root = Pickle::read(b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.").unwrap().root;
        assert!(matches!(root, Value::BigInt));
    }

    #[test]
    fn an_alias_sees_what_is_added_later() {
        // [d, d] where d gets its entry after the second mention
        let pickle = Pickle::read(b"](}q\x00h\x00X\x01\x00\x00\x00aK\x07se.").unwrap();
        let members = pickle.sequence(pickle.root).unwrap();
        for dict in members {
            assert!(matches!(pickle.get(*dict, "a"), Some(Value::Int(7))));
        }
    }
}
