"""The chain on a handful of phantoms, run once for all tests that look at its results, and who runs beside whom."""

import pytest
from project import copy_project, tle


def pytest_collection_modifyitems(items):
    """The longest chain first, so that two processes end at about the same time."""
    items.sort(key=lambda item: "test_planted_chain" not in item.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With ``--dist loadscope`` one process takes all tests that look at one chain or book, or stand in one file."""
    from xdist.scheduler import LoadScopeScheduling

    class ByResults(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            if "[chain" in nodeid or "/test_chain.py" in nodeid:
                return "smoke"
            if "[mini" in nodeid:
                return "mini"
            return nodeid.split("::")[0]

    return ByResults(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """Project folder after the whole chain on a handful of phantoms."""
    folder = copy_project(tmp_path_factory.mktemp("smoke"))
    done = tle(folder, "run", "--profile", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def smoke_book(smoke):
    """Folder of the pages built from the smoke chain."""
    done = tle(smoke, "book", "--profile", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    return smoke / "_build" / "html"
