//! As much Markdown as our pages use.

/// A fenced block: its language, and its lines.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
}

/// A page, taken apart.
#[derive(Default)]
pub(crate) struct Page {
    /// Everything outside of fenced blocks.
    pub(crate) prose: String,
    pub(crate) blocks: Vec<Block>,
    /// The anchors that headings give, as GitHub and mdBook make them.
    pub(crate) anchors: Vec<String>,
    pub(crate) headings: Vec<Heading>,
}

/// A heading, and what stands below it until the next one.
pub(crate) struct Heading {
    pub(crate) title: String,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let mut inside: Option<Block> = None;
        for line in text.lines() {
            match (line.trim_start().strip_prefix("```"), inside.take()) {
                (Some(_), Some(block)) => page.blocks.push(block),
                (Some(language), None) => {
                    inside = Some(Block { language: language.trim().to_owned(), text: String::new() });
                }
                (None, Some(mut block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    inside = Some(block);
                }
                (None, None) => page.line(line),
            }
        }
        assert!(
            inside.is_none(),
            "a fenced block is not closed in the page that begins {:?}",
            text.lines().next()
        );
        page
    }

    fn line(&mut self, line: &str) {
        self.prose.push_str(line);
        self.prose.push('\n');
        if let Some(title) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#'))
            && let Some(title) = title.strip_prefix(' ')
        {
            self.anchors.push(self.unique(&slug(title)));
            self.headings.push(Heading { title: title.trim().to_owned(), text: String::new() });
        } else if let Some(last) = self.headings.last_mut() {
            last.text.push_str(line);
            last.text.push('\n');
        }
    }

    fn unique(&self, slug: &str) -> String {
        let free = |name: &String| !self.anchors.contains(name);
        let numbered = (1..).map(|n| format!("{slug}-{n}"));
        std::iter::once(slug.to_owned()).chain(numbered).find(free).unwrap_or_default()
    }

    /// What stands between single backticks, outside of fenced blocks.
    pub(crate) fn spans(&self) -> impl Iterator<Item = &str> {
        self.prose.split('`').skip(1).step_by(2)
    }

    /// The prose without what stands between backticks.
    pub(crate) fn words(&self) -> String {
        self.prose.split('`').step_by(2).collect::<Vec<_>>().join("_")
    }

    /// The targets of all links.
    pub(crate) fn links(&self) -> Vec<String> {
        let words = self.words();
        let after = words.split("](").skip(1);
        after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.trim().to_owned()).collect()
    }
}

/// How a heading is linked to.
pub(crate) fn slug(title: &str) -> String {
    let plain: String = match title.split_once("](") {
        Some((text, rest)) => {
            format!("{}{}", text.replace('[', ""), rest.split_once(')').map_or("", |(_, rest)| rest))
        }
        None => title.to_owned(),
    };
    plain
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn a_page_is_taken_apart_into_headings_links_spans_and_blocks() {
    let page = Page::parse(
        "# One `two`\nSee [`a`](b.md#c) and `x [y](z)`.\n## Two\n## Two\n```sh\n# no heading [n](o)\n```\n",
    );
    assert_eq!(page.anchors, ["one-two", "two", "two-1"]);
    assert_eq!(page.links(), ["b.md#c"]);
    assert_eq!(page.spans().collect::<Vec<_>>(), ["two", "a", "x [y](z)"]);
    assert_eq!(
        (page.blocks[0].language.as_str(), page.blocks[0].text.as_str()),
        ("sh", "# no heading [n](o)\n")
    );
    assert!(page.headings[0].text.contains("See"));
    assert_eq!(slug("3. Give the pods a database account"), "3-give-the-pods-a-database-account");
}
