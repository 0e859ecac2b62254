//! Pages of documentation: their code blocks, headings and links.

use std::path::{Path, PathBuf};

/// A Markdown file of the repository.
pub struct Page {
    /// Path from the root of the repository.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// A fenced code block.
#[derive(Debug)]
pub struct Block {
    /// Line of the opening fence, counted from one.
    pub line: usize,
    /// The language after the fence.
    pub language: String,
    /// The treatment of the block by the tests.
    pub directive: Directive,
    /// The text, each line with its newline.
    pub text: String,
}

/// An HTML comment `<!-- test: ... -->` on the line before a block.
#[derive(Debug, PartialEq, Eq)]
pub enum Directive {
    /// No comment.
    None,
    /// `skip, REASON`: the block is not run.
    Skip(String),
    /// `server`: the block starts a server, which runs until the next one or the end of the page.
    Server,
    /// `file NAME`: the block is saved under this name for the blocks after it.
    File(String),
    /// `same as PATH`: the block is the complete file of the repository.
    SameAs(String),
}

/// A link of a page, with its line.
#[derive(Debug, PartialEq, Eq)]
pub struct Link {
    /// Line of the link, counted from one.
    pub line: usize,
    /// The target as written.
    pub target: String,
}

/// Returns the root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

impl Page {
    /// Reads a page.
    ///
    /// # Panics
    /// The file cannot be read.
    #[must_use]
    pub fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.into(), text }
    }

    /// Reads every page below a directory of the repository, ordered by path.
    ///
    /// # Panics
    /// The directory cannot be read.
    #[must_use]
    pub fn below(directory: &str) -> Vec<Self> {
        let (mut pending, mut paths) = (vec![directory.to_owned()], Vec::new());
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(root().join(&directory)).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{directory}/{}", entry.file_name().to_string_lossy());
                if entry.path().is_dir() {
                    pending.push(path);
                } else if path.ends_with(".md") {
                    paths.push(path);
                }
            }
        }
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Returns the code blocks in order.
    ///
    /// # Panics
    /// A directive is unknown, or is not followed by a block.
    #[must_use]
    pub fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut open, mut directive) = (Vec::new(), None::<Block>, Directive::None);
        for (number, line) in (1..).zip(self.text.lines()) {
            match (&mut open, line.strip_prefix("```")) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, Some(language)) => {
                    let directive = std::mem::replace(&mut directive, Directive::None);
                    let (language, text) = (language.trim().to_owned(), String::new());
                    open = Some(Block { line: number, language, directive, text });
                }
                (None, None) => {
                    assert_eq!(
                        directive,
                        Directive::None,
                        "{}:{number}: a block must follow its directive",
                        self.path
                    );
                    directive = self.directive(number, line);
                }
            }
        }
        assert!(open.is_none(), "{}: a code block does not end", self.path);
        blocks
    }

    fn directive(&self, number: usize, line: &str) -> Directive {
        let comment = line.strip_prefix("<!-- test: ").and_then(|rest| rest.strip_suffix(" -->"));
        let Some(text) = comment else { return Directive::None };
        match text.split_once(' ') {
            None if text == "server" => Directive::Server,
            Some(("skip,", reason)) => Directive::Skip(reason.into()),
            Some(("file", name)) => Directive::File(name.into()),
            Some(("same", path)) => Directive::SameAs(path.trim_start_matches("as ").into()),
            _ => panic!("{}:{number}: unknown directive: {text}", self.path),
        }
    }

    /// Returns the lines outside of code blocks, counted from one.
    pub fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_code = false;
        (1..).zip(self.text.lines()).filter(move |(_, line)| {
            let is_fence = line.starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        })
    }

    /// Returns the inline links in order.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        let mut links = Vec::new();
        for (line, text) in self.prose() {
            for rest in text.split("](").skip(1) {
                if let Some((target, _)) = rest.split_once(')') {
                    links.push(Link { line, target: target.into() });
                }
            }
        }
        links
    }

    /// Returns the anchors of its headings, as GitHub and mdBook form them.
    #[must_use]
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.prose().filter(|(_, line)| line.starts_with('#'));
        headings.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Whether output matches the block that shows it. `…` stands for any text within a line; on a
/// line by itself, for any number of lines. Blanks at the ends of lines do not count.
#[must_use]
pub fn output_matches(shown: &str, output: &str) -> bool {
    let shown = shown.trim_end().lines().map(str::trim_end);
    let shown: Vec<_> =
        shown.map(|line| if line.trim_start() == "…" { "…" } else { line }).collect();
    let output: Vec<_> = output.trim_end().lines().map(str::trim_end).collect();
    lines_match(&shown, &output)
}

fn lines_match(shown: &[&str], output: &[&str]) -> bool {
    match (shown, output) {
        ([], _) => output.is_empty(),
        (["…", rest @ ..], _) => {
            (0..=output.len()).any(|skipped| lines_match(rest, &output[skipped..]))
        }
        ([line, rest @ ..], [first, others @ ..]) => {
            line_matches(line, first) && lines_match(rest, others)
        }
        (_, []) => false,
    }
}

fn line_matches(shown: &str, line: &str) -> bool {
    let Some((start, rest)) = shown.split_once('…') else { return shown == line };
    let Some(line) = line.strip_prefix(start) else { return false };
    let ends = line.char_indices().map(|(index, _)| index).chain([line.len()]);
    ends.into_iter().any(|index| line_matches(rest, &line[index..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page { path: "page.md".into(), text: text.into() }
    }

    #[test]
    fn blocks_have_their_language_and_directive() {
        let page = page(
            "Text\n\n<!-- test: file a.cfg -->\n```ini\n[a]\nb=c\n```\n```sh\nls\n```\n\
             <!-- test: skip, needs systemd -->\n```sh\n```\n",
        );
        let blocks = page.blocks();
        let described: Vec<_> = blocks
            .iter()
            .map(|block| (block.line, &*block.language, &block.directive, &*block.text))
            .collect();
        assert_eq!(
            described,
            [
                (4, "ini", &Directive::File("a.cfg".into()), "[a]\nb=c\n"),
                (8, "sh", &Directive::None, "ls\n"),
                (12, "sh", &Directive::Skip("needs systemd".into()), ""),
            ]
        );
    }

    #[test]
    fn links_and_anchors_are_those_of_the_prose() {
        let page = page("# In front, `h2`\n[a](b.md#c) and [d](e)\n```sh\n# [f](g)\n```\n");
        let targets: Vec<_> = page.links().into_iter().map(|link| link.target).collect();
        assert_eq!(targets, ["b.md#c", "e"]);
        assert_eq!(page.anchors(), ["in-front-h2"]);
    }

    #[test]
    fn output_matches_only_where_the_ellipsis_allows() {
        assert!(output_matches("a … c\n…\nz\n", "a b b c\n1\n2\nz \r\n"));
        assert!(output_matches("  …\nz", "z"));
        for output in ["a b c", "a  d\nz", "x a b c\nz", "a b c\nz\n1"] {
            assert!(!output_matches("a … c\n…\nz\n", output), "{output}");
        }
    }
}
