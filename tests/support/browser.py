"""Debian's Chromium, without a window; tests skip where no Chromium is installed."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, expect, sync_playwright

from local_emulators.ports import HOST

#: Longer than any step on a busy machine, in milliseconds.
DEADLINE_MS = 60_000
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for a module: while it runs, no test can run an event loop of its own.

    Chromium's sandbox needs rights that containers lack.
    """
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        words = "Chromium is not installed: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(words)
        pytest.skip(words)
    expect.set_options(timeout=DEADLINE_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def tab(browser: Browser, url: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> Iterator[Page]:
    """A tab of a new window on a service; any error of a script fails the test."""
    context = browser.new_context(
        base_url=url,
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(DEADLINE_MS)
    page = context.new_page()
    errors = _errors_of(page)
    yield page
    context.close()
    assert not errors


def _errors_of(page: Page) -> list[str]:
    """Errors of scripts, breaches of the policy, and dialogs, as they come."""
    errors: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def read(message: ConsoleMessage) -> None:
        if "Content Security" in message.text:
            errors.append(message.text)

    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", read)
    page.on("dialog", dismiss)
    return errors


@contextmanager
def served(application: FastAPI) -> Iterator[str]:
    """The address of the application, served by a thread.

    The socket listens at once: a page that is opened before the server has started waits for the server.
    """
    server = uvicorn.Server(uvicorn.Config(application, log_config=None, lifespan="off"))
    with socket.create_server((HOST, 0)) as listener:
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="gallery")
        thread.start()
        try:
            yield f"http://{HOST}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            server.force_exit = True  # an open stream of events would hold the server
            thread.join()


def serious_findings(page: Page) -> list[str]:
    """What axe finds on the page, of impact serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {node['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def overflow_px(page: Page) -> int:
    """How much wider the page is than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
