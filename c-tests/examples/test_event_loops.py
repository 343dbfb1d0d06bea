#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""The host in docs/event-loops.md is examples/hosts/epoll.c, and the page knows each host and each call that it has."""

import re

from cases import ROOT, case, main, same

PAGE = (ROOT / "docs/event-loops.md").read_text()
HOSTS = sorted(path for path in (ROOT / "examples/hosts").iterdir() if path.suffix in (".c", ".py"))
# As the page names them.
LOOPS = {"glib": "GLib", "asyncio_host": "asyncio"}


@case("the complete host is examples/hosts/epoll.c")
def host():
    found = re.findall(r"^```c\n(.*?)^```", PAGE, re.M | re.S)
    # The licence line is for the file, not for the reader.
    expected = re.sub(r"\A/\*[^*]*SPDX-License-Identifier[^*]*\*/\n+", "", (ROOT / "examples/hosts/epoll.c").read_text())
    same(found, [expected], "the list of blocks in C")


@case("each host is mentioned")
def hosts():
    missing = [path.name for path in HOSTS if LOOPS.get(path.stem, path.stem) not in PAGE]
    same(missing, [], "what is missing")


@case("each host has the calls that the page asks for")
def calls():
    asked = re.findall(r"^\| [^|]+ \|[^|]*`(paluring_ring_\w+)[`(]", PAGE, re.M)
    same([call.removeprefix("paluring_ring_") for call in asked], ["event_fd", "prepare", "process", "close"], "the list of calls")
    for path in HOSTS:
        text = path.read_text()
        if path.stem in ("work", "serve", "pthreads"):
            continue
        for call in asked:
            assert call in text, f"{path.name} has no {call}"


@case("what it names is in the header")
def names():
    header = (ROOT / "include/paluring.h").read_text()
    unknown = [name for name in sorted(set(re.findall(r"\b(?:paluring|PALURING)_\w+", PAGE))) if not re.search(rf"\b{name}\b", header)]
    same(unknown, [], "what the header hasn't")


main()
