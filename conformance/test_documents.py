"""The commands that pages show, run as they stand there."""

import pytest

from testbed.console import Terminal, missing, steps_of
from testbed.deployment import PROJECT

pytestmark = pytest.mark.embedded

PAGES = sorted(page for page in (PROJECT / "docs").glob("*.md") if "```console\n" in page.read_text())
# Pages that must have such commands. This list may only become longer.
MUST_HAVE = ["gateways", "gateways-broker", "mcu-http", "nodes-coap", "nodes-mqtt", "nodes-mqtt-sn", "nodes-websocket", "units"]


def test_each_page_about_nodes_shows_commands():
    assert set(MUST_HAVE) <= {page.stem for page in PAGES}
    assert all(step.command.startswith("covey ") for page in PAGES for step in steps_of(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_say_what_it_shows(page, tmp_path):
    terminal = Terminal(tmp_path)
    try:
        for step in steps_of(page):
            terminal.run(step)
    finally:
        terminal.close()


def test_what_is_shown_and_not_said_is_found():
    said = "ID  NODE\n1   coap/a  admitted  now\nDONE 200 after 0.1 s\n"
    assert missing(["1 coap/a … now", "DONE 200 after …"], said) is None
    assert missing(["1 coap/b"], said) == "1 coap/b"
    assert missing(["DONE 200", "1 coap/a"], said) == "1 coap/a", "in this order"
    assert missing(["DONE 200 after … min"], said) == "DONE 200 after … min"
