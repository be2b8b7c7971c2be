#!/usr/bin/env python3
"""House habits that no other tool checks: the length of files and lines, and words that put work off.

Usage: style.py [ROOT]
"""

import glob
import os
import re
import sys

from source_tree import Report, read, root_from_arguments, sources

MAX_LINES = 500
MAX_COLUMNS = 100
USING = re.compile(r"\s*using namespace (?!std::string_literals;)")
# Put together, so that this file does not find itself.
PUT_OFF = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
# Abseil's ways to wait of which the ThreadSanitizer build is not told (cmake/tsan_abseil.cc): it would call what they
# order a race.
UNSEEN = re.compile(r"\b(CondVar|ReaderTryLock|(Reader|Writer)?LockWhen\w*|BlockingCounter|"
                    r"WaitForNotificationWithDeadline)\b")
MAX_COLUMNS_PROSE = 120
PROSE = (".md", ".1", ".5", ".7", ".8")


def other_files(root):
    """Scripts, build files and documents, which git would list, too."""
    patterns = ["Makefile", "README.md", "CMakeLists.txt", "*/CMakeLists.txt", "*/*/CMakeLists.txt", "cmake/*.cmake",
                "tools/*", ".ci/run", "docs/*.md", "man/*.[1-9]", "test/**/*.sh", "test/**/*.py", "test/**/*.md",
                "proto/*.proto", "bench/**/*.sh", "bench/**/*.md"]
    found = set()
    for pattern in patterns:
        for path in glob.glob(os.path.join(root, pattern), recursive=True):
            if os.path.isfile(path) and not os.path.relpath(path, root).startswith("build"):
                found.add(os.path.relpath(path, root))
    return sorted(found)


def check(report, path, text):
    is_code = path.endswith((".h", ".cc"))
    lines = text.split("\n")
    if text and not text.endswith("\n"):
        report.add(path, len(lines), "the last line does not end")
    if is_code and len(lines) - 1 > MAX_LINES:
        report.add(path, len(lines) - 1, f"{len(lines) - 1} lines; split by idea what passes {MAX_LINES}")
    limit = MAX_COLUMNS if is_code else MAX_COLUMNS_PROSE
    for number, line in enumerate(lines, 1):
        # Prose keeps its tables and addresses on one line.
        if len(line) > limit and "://" not in line and not (path.endswith(PROSE)):
            report.add(path, number, f"{len(line)} columns; {limit} fit")
        if line != line.rstrip():
            report.add(path, number, "blanks at the end")
        if "\t" in line and is_code:
            report.add(path, number, "a tab")
        if is_code and USING.match(line):
            report.add(path, number, "all of a namespace's names")
        match = UNSEEN.search(line) if is_code else None
        if match:
            report.add(path, number, f"{match.group(0)}: cmake/tsan_abseil.cc does not tell the sanitizer of it")
        match = PUT_OFF.search(line)
        if match:
            report.add(path, number, f"{match.group(0)}: do it, or open an issue")


def main():
    root = root_from_arguments()
    report = Report()
    files = sources(root) + other_files(root)
    for path in files:
        check(report, path, read(root, path))
    return report.finish(len(files))


if __name__ == "__main__":
    sys.exit(main())
