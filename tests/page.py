"""A page of HTML as its parts, for tests to look at."""

import html.parser

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(html.parser.HTMLParser):
    """Tags, attributes, text and rows of tables; fails on a tag that is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], set(), [], []
        self.tables = []
        self.feed(text.replace("<wbr>", ""))
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1] += [""] * int(dict(attributes).get("colspan", 1))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
        if {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] = " ".join((self.tables[-1][-1][-1] + " " + data).split())

    def headed(self, heading):
        """The rows of the only table that has a column of this heading."""
        (found,) = [rows for rows in self.tables if heading in rows[0]]
        return found

    def values(self, attribute):
        return [value for name, value in self.attributes if name == attribute]
