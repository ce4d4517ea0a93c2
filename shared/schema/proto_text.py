"""Protocol Buffers definitions as text: whether they are ones, for the resource `protos`.

The law: what protoc takes by its grammar is taken, in proto2 and proto3; whether a type that is named exists is for whoever
uses the definition. An error says the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r\n\f\v]+|//[^\n]*|/\*.*?\*/)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)
      | (?P<name>\.?[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
      | (?P<sign>[{}()\[\]<>=;,:/+.-])""",
    re.VERBOSE | re.DOTALL,
)
MAX_DEPTH: Final = 32
Token = tuple[str, str, int]


class ProtoError(ValueError):
    """Not a definition."""


def check_proto(text: str) -> None:
    """Raises ProtoError."""
    _Parser(_tokens(text)).file()


def _tokens(text: str) -> list[Token]:
    """Kind, text and line of each."""
    found: list[Token] = []
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ProtoError(f"line {line}: unexpected {text[at]!r}")
        if match.lastgroup != "space":
            found.append((str(match.lastgroup), match.group(), line))
        line += match.group().count("\n")
        at = match.end()
    return [*found, ("end", "the end", line)]


class _Parser:
    """By recursive descent; what only qualifies (options, reserved numbers) is skipped to its end."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def file(self) -> None:
        kinds: Mapping[str, Callable[[int], None]] = {
            "message": self._message,
            "enum": self._enum,
            "service": self._service,
            "extend": self._message,
        }
        while self._tokens[self._at][0] != "end":
            word = self._next()
            if word in ("syntax", "edition"):
                self._expect("=")
                self._string()
                self._expect(";")
            elif word in ("package", "import", "option"):
                self._to_semicolon()
            elif word in kinds:
                kinds[word](1)
            elif word != ";":
                self._at -= 1
                raise self._wrong("a definition such as message or service")

    def _message(self, depth: int) -> None:
        self._name()
        self._body(depth)

    def _body(self, depth: int) -> None:
        self._check(depth)
        self._expect("{")
        while not self._take("}"):
            self._member(depth)

    def _member(self, depth: int) -> None:
        word = self._peek()
        if word in ("message", "enum", "extend") and self._ahead(2) == "{":
            self._next()
            (self._enum if word == "enum" else self._message)(depth + 1)
        elif word in ("option", "reserved", "extensions"):
            self._next()
            self._to_semicolon()
        elif word == "oneof":
            self._next()
            self._message(depth + 1)
        elif not self._take(";"):
            self._field(depth)

    def _field(self, depth: int) -> None:
        if self._peek() in ("optional", "required", "repeated"):
            self._next()
        if self._take("group"):
            self._name()
            self._expect("=")
            self._number()
            self._options()
            self._body(depth + 1)
            return
        if self._peek() == "map" and self._ahead(1) == "<":
            self._at += 2
            self._name()
            self._expect(",")
            self._name()
            self._expect(">")
        else:
            self._name()
        self._name()
        self._expect("=")
        self._number()
        self._options()
        self._expect(";")

    def _enum(self, depth: int) -> None:
        self._check(depth)
        self._name()
        self._expect("{")
        while not self._take("}"):
            if self._peek() in ("option", "reserved") and self._ahead(1) != "=":
                self._to_semicolon()
            elif not self._take(";"):
                self._name()
                self._expect("=")
                self._take("-")
                self._number()
                self._options()
                self._expect(";")

    def _service(self, _depth: int) -> None:
        self._name()
        self._expect("{")
        while not self._take("}"):
            if self._take("option"):
                self._to_semicolon()
            elif not self._take(";"):
                self._rpc()

    def _rpc(self) -> None:
        self._expect("rpc")
        self._name()
        self._type()
        self._expect("returns")
        self._type()
        if not self._take("{"):
            self._expect(";")
            return
        while not self._take("}"):
            if self._take("option"):
                self._to_semicolon()
            else:
                self._expect(";")

    def _type(self) -> None:
        self._expect("(")
        if self._peek() == "stream" and self._ahead(1) != ")":
            self._next()
        self._name()
        self._expect(")")

    def _options(self) -> None:
        if self._take("["):
            self._balanced("]")

    def _to_semicolon(self) -> None:
        self._balanced(";")

    def _balanced(self, end: str) -> None:
        """To `end`, over whole braces."""
        pairs = {"{": "}", "[": "]", "(": ")"}
        wanted = [end]
        while wanted:
            if len(wanted) > MAX_DEPTH or self._tokens[self._at][0] == "end":
                raise self._wrong(wanted[-1])
            kind, text, _ = self._tokens[self._at]
            if kind == "sign" and text == wanted[-1]:
                wanted.pop()
            elif kind == "sign" and text in pairs:
                wanted.append(pairs[text])
            elif kind == "sign" and text in pairs.values():
                raise self._wrong(wanted[-1])
            self._at += 1

    def _check(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ProtoError(f"line {self._tokens[self._at][2]}: nested deeper than {MAX_DEPTH} levels")

    def _peek(self) -> str:
        return self._tokens[self._at][1]

    def _ahead(self, count: int) -> str:
        return self._tokens[min(self._at + count, len(self._tokens) - 1)][1]

    def _next(self) -> str:
        text = self._peek()
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return text

    def _take(self, text: str) -> bool:
        taken = self._peek() == text and self._tokens[self._at][0] != "string"
        self._at += taken
        return taken

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._wrong(text)

    def _of_kind(self, kind: str, words: str) -> None:
        if self._tokens[self._at][0] != kind:
            raise self._wrong(words)
        self._at += 1

    def _name(self) -> None:
        self._of_kind("name", "a name")

    def _number(self) -> None:
        self._of_kind("number", "a number")

    def _string(self) -> None:
        self._of_kind("string", "a string")

    def _wrong(self, expected: str) -> ProtoError:
        _, text, line = self._tokens[self._at]
        return ProtoError(f"line {line}: expected {expected}, got {text[:40]}")
