"""Books to open, and the browser that opens them."""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import mini_book
import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session", params=["mini", "chain"])
def book(request, tmp_path_factory):
    """Folder of the pages of a book: the mini book made on the spot, and the one that the chain made.

    TLE_BOOK_HTML names a book that is already built, in place of the one of the smoke chain.
    """
    if request.param == "mini":
        folder = tmp_path_factory.mktemp("mini_book")
        mini_book.stage(folder)
        return mini_book.build(folder)
    if "TLE_BOOK_HTML" in os.environ:
        return Path(os.environ["TLE_BOOK_HTML"]).resolve()
    return request.getfixturevalue("smoke_book")


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium of the system."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip("no Chromium found: install the system's package chromium")
    with playwright.sync_playwright() as api:
        chromium = api.chromium.launch(executable_path=found[0], args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def served(book):
    """Address of the book on a local web server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(book)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
