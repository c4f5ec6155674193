"""YAML that is not what it looks like is refused with its field, what was given and how to write it."""

import json
import math
import re
from itertools import pairwise
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.core.plain_yaml import DEPTH_MAX, VALUES_MAX, read_plain
from components.core.yaml_values import NotPlain

ODD = {
    "010": ("octal", "write 8 or 10"),
    "-010": ("octal", "write -8 or -10"),
    "0755": ("octal", "write 493 or 755"),
    "007": ("zeros", "write 7"),
    "089": ("zeros", "write 89"),
    "00.5": ("zeros", "write 0.5"),
    "0x1F": ("base 16", "write 31"),
    "-0xff": ("base 16", "write -255"),
    "0o17": ("base 8", "write 15"),
    "0b101": ("base 2", "write 5"),
    "1_000": ("write 1000",),
    "+1_0.5": ("write 10.5",),
    "0_1": ("write 1",),
    ".5_0": ("write .50",),
    "1:30": ("base 60", "write 90 or 1.5"),
    "-1:30": ("base 60", "write -90 or -1.5"),
    "12e4567": ("finite number", 'write "12e4567" for text'),
    "12:30:45": ("base 60", "write 45045 or 12.5125"),
    "1:30.5": ("base 60", "write 90.5"),
    "yes": ("write true or false",),
    "No": ("write true or false",),
    "ON": ("write true or false",),
    "off": ("write true or false",),
    ".inf": ("finite number",),
    "-.Inf": ("finite number",),
    ".nan": ("finite number",),
    "1e999": ("finite number",),
    "9" * 5000: ("5000 characters", "allowed: 40"),
}


@pytest.mark.parametrize("word", ODD, ids=lambda word: word[:12])
def test_a_word_that_is_not_what_it_looks_like_is_refused_with_its_field(word: str) -> None:
    for text, field in ((f"a: {{b: {word}}}", "a.b"), (f"a: [1, {word}]", "a.1"), (f"a:\n  b: {word} # so\n", "a.b")):
        with pytest.raises(NotPlain) as caught:
            read_plain(text)
        line = str(caught.value)
        assert line.startswith(f"{field}: ")
        assert [
            part for part in (*ODD[word], word[:40]) if part not in line and not line.startswith(f"{field}: a number of")
        ] == []
        assert "\n" not in line


def test_several_are_told_in_one_line() -> None:
    with pytest.raises(NotPlain) as caught:
        read_plain("seed: 010\ncompute: {minutes: 1:30}\na: 0x1\nb: 0x2")
    assert [part.split(":")[0] for part in str(caught.value).split("; also ")] == ["seed", "compute.minutes", "a"]


@pytest.mark.parametrize("word", ODD, ids=lambda word: word[:12])
def test_in_quotes_it_is_text(word: str) -> None:
    assert read_plain(f'a: "{word}"') == read_plain(f"a: '{word}'") == read_plain(f"a: |-\n  {word}") == {"a": word}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("10", 10), ("-3", -3), ("+5", 5), ("0", 0), ("1.5", 1.5), (".5", 0.5), ("1e-3", 0.001), ("1E3", 1000.0), ("2.", 2.0),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("2024-01-01", "2024-01-01"),
        ("2024-01-01 10:00:00", "2024-01-01 10:00:00"), ("=", "="), ("v1.2.3", "v1.2.3"), ("1-2", "1-2"), ("y", "y"),
        ("hf:org/name", "hf:org/name"), ("0x", "0x"), ("nan", "nan"), ("café", "café"), ("C:\\photos", "C:\\photos"),
    ],
)  # fmt: skip
def test_what_looks_like_itself_is_read(word: str, value: Any) -> None:
    found = read_plain(f"a: {word}")
    assert found == {"a": value}
    assert type(found["a"]) is type(value)  # type: ignore[index, call-overload]


WRONG = {
    "a cycle": ("a: &x [*x]", "*x holds itself"),
    "a cycle of mappings": ("a: &x {b: {c: *x}}", "*x holds itself"),
    "a document that holds itself": ("&x\na: 1\nb: *x", "*x holds itself"),
    "an alias of nothing": ("a: *x", "*x stands for nothing"),
    "a list key": ("? [a, b]\n: 1", "a key must be one word, a list given"),
    "a mapping key": ("{{a: 1}: 2}", "a key must be one word, a mapping given"),
    "an alias key": ("a: &x b\n*x : 1", "a key must be one word, an alias given"),
    "a tagged key": ("!!str a: 1", "a key must be one word"),
    "a key twice": ("{a: 1, b: {c: 1, 'c': 2}}", "c is given twice"),
    "two merges": ("x: &x {a: 1}\nb: {<<: *x, <<: *x}", "<< is given twice"),
    "a merge of a word": ("<<: a", "<< takes a mapping"),
    "a python tag": ("a: !!python/object/apply:os.system [ls]", "the tag tag:yaml.org,2002:python/object/apply:os.system"),
    "a set": ("a: !!set {b}", "the tag tag:yaml.org,2002:set"),
    "a binary": ("a: !!binary aGk=", "the tag"),
    "an own tag": ("a: !secret x", "the tag !secret"),
    "many brackets": ("[" * 5000, f"more than {DEPTH_MAX} levels"),
    "many braces": ("{a: " * 5000, f"more than {DEPTH_MAX} levels"),
    "many closed brackets": ("[" * 5000 + "]" * 5000, f"more than {DEPTH_MAX} levels"),
    "many dashes": ("- " * 5000, f"more than {DEPTH_MAX} levels"),
    "levels by aliases": (
        "a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} {'[' * 9}*a{n - 1}{']' * 9}" for n in range(1, 9)),
        f"more than {DEPTH_MAX} levels",
    ),
    "a billion laughs": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(f"{to}: &{to} [{', '.join([f'*{of}'] * 9)}]" for of, to in pairwise("abcdefghi")),
        f"more than {VALUES_MAX:,} values",
    ),
    "many values": ("[" + "1, " * 20_000 + "]", f"more than {VALUES_MAX:,} values"),
    "a long alias": ("a: *" + "b" * 90_000, "stands for nothing"),
    "a long key": ("b" * 1000 + ": 1", "a key of 1,000 characters"),
    "a long tag": ("a: !" + "b" * 90_000, "the tag !bbb"),
    "two documents": ("a: 1\n---\nb: 2", "a second document"),
    "a tab": ("a:\n\tb: 1", "not YAML at line 2"),
    "a NUL": ("a: \0", "not YAML"),
    "a NUL in quotes": ('a: "b\\0c"', "a: the character"),
    "half a character": ('a: "\\ud800"', "a: the character"),
    "an escape": ("a: '\x1b[31m'", "not YAML"),
    "an open quote": ("a: 'b", "not YAML"),
    "a star": ("a: * * * * *", "in quotes"),
    "an at sign": ("a: @daily", "in quotes"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_no_file_for_people_holds_is_refused_in_one_line(what: str) -> None:
    text, part = WRONG[what]
    with pytest.raises(NotPlain) as caught:
        read_plain(text)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_anchors_merges_a_byte_order_mark_and_keys_as_they_are_written() -> None:
    assert read_plain("a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}\nc: [*x]") == {
        "a": {"k": 1, "l": 2}, "b": {"k": 3, "l": 2}, "c": [{"k": 1, "l": 2}],
    }  # fmt: skip
    assert read_plain("a: {<<: [{k: 1}, {k: 2, l: 2}]}") == {"a": {"k": 1, "l": 2}}
    assert read_plain("\ufeffon: 1\n1: 2\nno: 3") == {"on": 1, "1": 2, "no": 3}
    assert read_plain("") is read_plain("# nothing") is read_plain("---\n...") is None


# Words like 08 and 0E0 are text to PyYAML, which leaves them bare, and no text to YAML 1.2.
TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc"))).filter(lambda text: not re.match(r"[-+.]?\d", text))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_json_and_what_yaml_writes_are_read_back(value: Any) -> None:
    assert read_plain(json.dumps(value)) == value
    assert read_plain(yaml.safe_dump(value)) == value


@given(st.text("0123456789_:.+-eExXoOyYnN", min_size=1, max_size=8))
def test_a_number_is_what_both_versions_of_yaml_and_python_take_it_for(word: str) -> None:
    try:
        found = read_plain(f"[{word}]")
    except NotPlain:
        return
    assert isinstance(found, list)
    for value in found:
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert math.isfinite(value)
            old = yaml.safe_load(f"[{word}]")
            assert old == found or isinstance(old[0], str)  # 1e3 was text
            assert value == float(word)
