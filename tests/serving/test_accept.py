"""Which reply an Accept header asks for."""

import pytest

from components.serving.accept import prefers

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "json_over_png", "html_over_json"),
    [
        ("", False, False),
        ("*/*", False, False),
        ("application/json", True, False),
        ("application/json, text/plain, */*", True, False),  # what scripts in browsers commonly send
        ("image/png, application/json;q=0.5", False, False),
        ("image/*;q=0.2, application/*", True, False),
        ("image/*, application/*", False, False),
        ("application/json;q=0, */*", False, True),
        ("application/json;q=0", False, False),
        (BROWSER, False, True),
        ("text/html;q=0, */*", False, False),
        ("TEXT/HTML ; Q=1", False, True),
        ("text/html;q=nonsense", False, True),
        ("text/html;q=nan", False, False),
        (",;,=,q=", False, False),
    ],
)
def test_the_weight_of_the_most_specific_range_counts(accept: str, json_over_png: bool, html_over_json: bool) -> None:
    assert prefers(accept, "application/json", over="image/png") is json_over_png
    assert prefers(accept, "text/html", over="application/json") is html_over_json
