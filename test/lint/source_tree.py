"""What the lint checks share: which files are ours, and what is code in them."""

import os
import re
import sys

ROOMS = ["base", "store/page", "store/volume", "store/tree", "fusefs", "blockdev", "net", "server/ctl", "server"]
FOLDERS = ["base", "store", "fusefs", "blockdev", "net", "server", "proto", "test", "bench"]


def sources(root, endings=(".h", ".cc")):
    """Paths of our files with these endings, relative to root, sorted."""
    found = []
    for folder in FOLDERS:
        for where, folders, names in os.walk(os.path.join(root, folder)):
            folders[:] = [name for name in folders if not name.startswith((".", "build"))]
            for name in names:
                if name.endswith(endings):
                    found.append(os.path.relpath(os.path.join(where, name), root))
    return sorted(found)


def room_of(path):
    """The room that a file belongs to ("store/page"), or None: server/ctl is a room of its own."""
    for room in ROOMS:
        if path.startswith(room + "/"):
            return room
    return None


def is_public_header(path):
    """FOLDER/NAME.h: not in impl/, not a test."""
    room = room_of(path)
    return room is not None and path.endswith(".h") and os.path.dirname(path) == room


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


_TOKENS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-zA-Z])'(?:\\.|[^'\\\n])+'""",
    re.DOTALL)


def code_only(text):
    """The text with comments and literals blanked out, line numbers unchanged. Include lines keep their name."""

    def blank(match):
        token = match.group(0)
        line_begin = text.rfind("\n", 0, match.start()) + 1
        if token.startswith('"') and text[line_begin:match.start()].strip().startswith("#"):
            return token
        return re.sub(r"[^\n]", " ", token)

    return _TOKENS.sub(blank, text)


class Report:
    """Collects what is wrong; one line each, as compilers write it."""

    def __init__(self):
        self.problems = []

    def add(self, path, line, what):
        self.problems.append(f"{path}:{line}: {what}")

    def finish(self, checked):
        """Prints the problems; the program's exit status."""
        for problem in self.problems:
            print(problem)
        print(f"{checked} files, {len(self.problems)} problems")
        return 1 if self.problems else 0


def root_from_arguments():
    if len(sys.argv) > 2:
        sys.exit(f"usage: {sys.argv[0]} [ROOT]")
    here = os.path.dirname(os.path.abspath(__file__))
    return sys.argv[1] if len(sys.argv) == 2 else os.path.dirname(os.path.dirname(here))
