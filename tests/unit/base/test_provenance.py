"""What a run says of where it comes from."""

from tle_utils.base import provenance


def test_without_git_the_commit_is_unknown_and_the_run_goes_on(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.code_state() == {"commit": None, "uncommitted_changes": None}
    assert provenance.versions()["numpy"]
