#!/usr/bin/env python3
"""Programs that use a mount while its daemon is upgraded: upgrade_clients.py FOLDER STOP_FILE REPORT

Works in FOLDER (beneath files/, with `large` and `walk/` in it) until STOP_FILE exists, then checks what was done.
Each client is a process. What is wrong is printed, and the exit status is 1. REPORT gets the longest time that one
operation of any client took, in seconds.
"""
import fcntl
import hashlib
import mmap
import multiprocessing
import os
import random
import sqlite3
import sys
import time

FOLDER, STOP_FILE, REPORT = sys.argv[1:4]
PAGE = 4096


class Client:
    """What all of them have: whether to stop, and how long operations took."""

    def __init__(self):
        self.longest = 0.0
        self.rounds = 0

    def goes_on(self):
        self.rounds += 1
        return not os.path.exists(STOP_FILE)

    def timed(self, call, *arguments):
        begin = time.monotonic()
        result = call(*arguments)
        self.longest = max(self.longest, time.monotonic() - begin)
        return result


def path(name):
    return os.path.join(FOLDER, name)


def need(condition, what):
    if not condition:
        raise AssertionError(what)


def whole_reader(client):
    """Opens a file anew each time, and compares its digest."""
    digest = None
    while client.goes_on():
        def read():
            with open(path("large"), "rb") as file:
                return hashlib.sha256(file.read()).hexdigest()
        now = client.timed(read)
        need(digest in (None, now), "large: another digest")
        digest = now


def held_reader(client):
    """One open file, read past the kernel's cache; its inode stays."""
    with open(path("large"), "rb") as file:
        content = file.read()
    fd = os.open(path("large"), os.O_RDONLY | os.O_DIRECT)
    inode = os.fstat(fd).st_ino
    buffer = mmap.mmap(-1, 64 * PAGE)
    while client.goes_on():
        at = random.randrange(len(content) // PAGE - 64) * PAGE
        got = client.timed(os.preadv, fd, [buffer], at)
        need(got == len(buffer) and buffer[:] == content[at:at + got], f"large: other bytes at {at}")
        need(client.timed(os.fstat, fd).st_ino == inode, "large: another inode")
        need(client.timed(os.stat, path("large")).st_ino == inode, "large: another inode by its name")


def mapper(client):
    """A shared mapping that is written to, and one that is read."""
    fd = os.open(path("mapped"), os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(fd, 16 * PAGE)
    view = mmap.mmap(fd, 16 * PAGE)
    number = 0
    while client.goes_on():
        number += 1
        word = b"%015d" % number
        for page in range(0, 16 * PAGE, PAGE):
            view[page:page + 15] = word
        client.timed(view.flush)
        need(client.timed(os.pread, fd, 15, 5 * PAGE) == word, "mapped: a write was lost")
    view.close()
    os.close(fd)
    with open(path("mapped"), "rb") as file:
        content = file.read()
    need(content == (word + bytes(PAGE - 15)) * 16, "mapped: other bytes at the end")


def appender(client):
    """Appends lines; none is lost, doubled or out of order."""
    fd = os.open(path("lines"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    count = 0
    while client.goes_on():
        client.timed(os.write, fd, b"line %d\n" % count)
        count += 1
        if count % 50 == 0:
            client.timed(os.fsync, fd)
    os.close(fd)
    with open(path("lines"), "rb") as file:
        lines = file.read().splitlines()
    need(lines == [b"line %d" % n for n in range(count)], f"lines: not the {count} that were appended")


def nameless(client):
    """A file without a name, and a new one now and then."""
    fd = -1
    number = 0
    while client.goes_on():
        if number % 40 == 0:
            if fd >= 0:
                os.close(fd)
            fd = os.open(path("nameless"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.unlink(path("nameless"))
            written = []
        word = b"%08d" % number
        client.timed(os.pwrite, fd, word, 8 * len(written))
        written.append(word)
        need(client.timed(os.pread, fd, 4096, 0) == b"".join(written), "nameless: other bytes")
        need(os.fstat(fd).st_nlink == 0, "nameless: has a name")
        number += 1
        time.sleep(0.005)


def locker(client):
    """A lock is held throughout; nobody else gets it."""
    holder = os.open(path("lock"), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(holder, fcntl.LOCK_EX)
    while client.goes_on():
        other = client.timed(os.open, path("lock"), os.O_RDWR)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raise AssertionError("lock: somebody else got it")
        except BlockingIOError:
            pass
        os.close(other)
        time.sleep(0.01)


def walker(client):
    """Walks of a directory, slow ones: each meets every name once."""
    names = None
    while client.goes_on():
        seen = []
        with os.scandir(path("walk")) as entries:
            while entry := client.timed(next, entries, None):
                seen.append(entry.name)
                if len(seen) % 100 == 0:
                    time.sleep(0.02)
        need(len(set(seen)) == len(seen), "walk: a name twice")
        need(names in (None, sorted(seen)), "walk: other names")
        names = sorted(seen)


def maker(client):
    """Makes, renames and removes files and directories."""
    number = 0
    while client.goes_on():
        folder = path(f"made{number % 7}")
        client.timed(os.mkdir, folder)
        with open(os.path.join(folder, "a"), "w", encoding="ascii") as file:
            file.write(str(number))
        client.timed(os.rename, os.path.join(folder, "a"), os.path.join(folder, "b"))
        with open(os.path.join(folder, "b"), encoding="ascii") as file:
            need(file.read() == str(number), "made: other bytes")
        client.timed(os.unlink, os.path.join(folder, "b"))
        client.timed(os.rmdir, folder)
        number += 1


def database(client):
    """Transactions; each that was committed is there, and the database is whole."""
    base = sqlite3.connect(path("db"), timeout=60)
    base.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, word TEXT)")
    base.commit()
    number = 0
    while client.goes_on():
        with base:
            base.execute("INSERT INTO t VALUES (?, ?)", (number, "word" * (number % 50)))
            client.timed(base.commit)
        number += 1
    need(base.execute("PRAGMA integrity_check").fetchone() == ("ok",), "db: damaged")
    need(base.execute("SELECT count(*) FROM t").fetchone() == (number,), "db: transactions are missing")
    base.close()


def image_writer(client):
    """Writes to a volume, which the kernel does not cache."""
    fd = os.open(path("../../volumes/v"), os.O_RDWR)
    number = 0
    while client.goes_on():
        word = b"%015d." % number * 32
        client.timed(os.pwrite, fd, word, number % 1000 * 777)
        need(client.timed(os.pread, fd, len(word), number % 1000 * 777) == word, "volume: other bytes")
        if number % 20 == 0:
            client.timed(os.fsync, fd)
        number += 1
    os.close(fd)


def run(function, queue):
    client = Client()
    wrong = ""
    try:
        function(client)
    except (OSError, AssertionError, sqlite3.Error) as error:
        wrong = f"{function.__name__}: {error!r}"
    queue.put((function.__name__, wrong, client.longest, client.rounds))


def main():
    clients = [whole_reader, held_reader, mapper, appender, nameless, locker, walker, maker, database,
               image_writer]
    queue = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=run, args=(client, queue)) for client in clients]
    for process in processes:
        process.start()
    results = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    for name, wrong, longest, rounds in sorted(results):
        print(f"{name}: {rounds} rounds, longest operation {longest * 1000:.0f} ms {wrong}")
    with open(REPORT, "w", encoding="ascii") as report:
        report.write(f"{max(result[2] for result in results):.3f}\n")
    return 1 if any(wrong for _, wrong, _, _ in results) else 0


if __name__ == "__main__":
    sys.exit(main())
