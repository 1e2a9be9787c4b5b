"""Text for readers."""

from tle_utils.base.text import minus


def test_only_negative_numbers_get_a_minus():
    assert minus("-1.5 (-2 to -1), CI -0.4–-0.2, y=-24") == "−1.5 (−2 to −1), CI −0.4–−0.2, y=−24"
    assert minus("sub-01, 10-20, left-right") == "sub-01, 10-20, left-right"
