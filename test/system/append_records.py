#!/usr/bin/env python3
"""Appends records to one file through several paths at once, or checks that each is there once and whole.

Usage: append_records.py write PATH NUMBER COUNT MOST     one process: COUNT records of up to MOST bytes
       append_records.py check PATH PROCESSES COUNT MOST
"""

import hashlib
import os
import random
import sys


def records(number, count, most):
    draw = random.Random(number)
    for i in range(count):
        body = bytes([97 + number % 26]) * draw.randrange(most)
        head = b"<%d %d %d " % (number, i, len(body))
        yield head + body + b" " + hashlib.md5(head + body).hexdigest().encode() + b">\n"


def main():
    command, path = sys.argv[1:3]
    number, count, most = (int(text) for text in sys.argv[3:6])
    if command == "write":
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        for record in records(number, count, most):
            assert os.write(file, record) == len(record)
        return
    with open(path, "rb") as file:
        text = file.read()
    waiting = [records(process, count, most) for process in range(number)]
    at = found = 0
    while at < len(text):
        process = int(text[at + 1:text.index(b" ", at)]) if text[at:at + 1] == b"<" else -1
        record = next(waiting[process], None) if 0 <= process < number else None
        if record is None or text[at:at + len(record)] != record:
            sys.exit(f"at {at} of {len(text)}: no record, or not its turn: {text[at:at + 60]!r}")
        at += len(record)
        found += 1
    if found != number * count:
        sys.exit(f"{found} records of {number * count}")


main()
