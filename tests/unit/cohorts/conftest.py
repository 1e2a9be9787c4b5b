import pytest

from unit.cohorts.lab import Lab


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)
