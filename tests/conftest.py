"""The chain on a handful of phantoms, run once for all tests that look at its results, and who runs beside whom."""

import hypothesis
import pytest
from project import copy_project, tle

hypothesis.settings.register_profile("any machine", deadline=None)  # a slow one fails nothing
hypothesis.settings.load_profile("any machine")


def _group(nodeid):
    """What a test looks at: the chain on phantoms, the mini book, or what its file makes."""
    if "[chain" in nodeid or "/test_chain.py" in nodeid:
        return "smoke"
    return "mini" if "[mini" in nodeid else nodeid.split("::")[0]


def pytest_collection_modifyitems(items):
    """The two chains first, so that two processes end at about the same time."""
    order = ["tests/real/test_planted_chain.py", "smoke"]
    items.sort(key=lambda item: order.index(group) if (group := _group(item.nodeid)) in order else len(order))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With ``--dist loadscope`` one process takes all tests that look at one chain or book, or stand in one file."""
    from xdist.scheduler import LoadScopeScheduling

    class ByResults(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _group(nodeid)

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
