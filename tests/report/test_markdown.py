"""Generated parts of Markdown: found, replaced, and nothing else touched."""

import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.report.markdown import parts, replace_between, replace_parts, table, without_parts

TEXT = """# T

<!-- begin a -->
one
<!-- end a -->
between `<!-- begin x -->` and
<!-- begin b-2 -->
<!-- end b-2 -->
end"""


def test_parts_are_found_by_name():
    assert parts(TEXT) == {"a": "one\n", "b-2": ""}
    assert parts("no markers") == {}


def test_a_part_is_replaced_and_the_rest_stays():
    changed = replace_between(TEXT, "b-2", "| x |\n\n")
    assert changed == TEXT.replace("<!-- begin b-2 -->\n", "<!-- begin b-2 -->\n| x |\n")
    assert replace_between(changed, "b-2", "| x |") == changed
    assert parts(changed) == {"a": "one\n", "b-2": "| x |\n"}


def test_content_is_taken_as_it_stands():
    assert parts(replace_between(TEXT, "a", r"\1 $& \n"))["a"] == "\\1 $& \\n\n"


def test_all_parts_are_filled_and_what_nothing_generates_is_an_error():
    assert parts(replace_parts(TEXT, {"a": "A", "b-2": "B", "c": "not asked for"})) == {"a": "A\n", "b-2": "B\n"}
    with pytest.raises(RDSInputError, match="nothing generates the part b-2; there is: a"):
        replace_parts(TEXT, {"a": "A"})
    with pytest.raises(RDSInputError, match="no part c; put it between"):
        replace_between(TEXT, "c", "")


def test_text_by_hand_has_no_generated_lines():
    assert "one" not in without_parts(TEXT) and without_parts(TEXT).startswith("# T\n")


@pytest.mark.parametrize(
    "text",
    [
        "<!-- begin a -->\n",
        "<!-- end a -->\n<!-- begin a -->\n",
        "<!-- begin a -->\n<!-- end b -->\n",
        "<!-- begin a -->\n<!-- begin b -->\n<!-- end b -->\n<!-- end a -->\n",
        "<!-- begin a -->\n<!-- end a -->\n<!-- begin a -->\n<!-- end a -->\n",
    ],
)
def test_markers_without_a_partner_are_an_error(text):
    with pytest.raises(RDSInputError, match="one begin and one end"):
        parts(text)


def test_a_table_has_a_line_per_row():
    assert table(["a", "b"], [(1, "x"), ("", 2.5)]) == "| a | b |\n| --- | --- |\n| 1 | x |\n|  | 2.5 |"
