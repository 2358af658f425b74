//! Where a completion ends in its text.

/// A growing text that is searched for stop strings as it grows, across the borders of tokens.
pub(super) struct Watched<'a> {
    text: String,
    stops: &'a [String],
    longest: usize, // bytes
}

impl<'a> Watched<'a> {
    pub(super) fn new(stops: &'a [String]) -> Watched<'a> {
        Watched { text: String::new(), stops, longest: stops.iter().map(String::len).max().unwrap_or(0) }
    }

    /// Appends `piece`. True when a stop string is now in the text, which is then cut before the earliest one.
    pub(super) fn push(&mut self, piece: &str) -> bool {
        // Only a stop that reaches into the new piece can be new.
        let mut from = (self.text.len() + 1).saturating_sub(self.longest);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        self.text.push_str(piece);
        let found = self
            .stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| self.text[from..].find(stop.as_str()))
            .min();
        if let Some(at) = found {
            self.text.truncate(from + at);
        }
        found.is_some()
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], stops: &[&str], expected: (&str, bool)) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let mut watched = Watched::new(&stops);
        let stopped = pieces.iter().any(|piece| watched.push(piece));
        assert_eq!((watched.into_text().as_str(), stopped), expected, "{pieces:?} {stops:?}");
    }

    #[test]
    fn stops_are_found_across_pieces() {
        check(&["    return 1\n", "def f"], &["\ndef"], ("    return 1", true));
        check(&["a\n", "d", "e", "f"], &["\ndef"], ("a", true));
        check(&["a\nde", "g"], &["\ndef"], ("a\ndeg", false));
        check(&["x", "\n#", "y\nclass"], &["\nclass", "\n#"], ("x", true));
        check(&["한국어\n", "# 주석"], &["\n#"], ("한국어", true));
        check(&["abc"], &[], ("abc", false));
        check(&["one\nif two\ndef"], &["\ndef", "\nif"], ("one", true)); // the earliest, not the first listed
        check(&["\n", "", "if"], &["\nif"], ("", true));
    }
}
