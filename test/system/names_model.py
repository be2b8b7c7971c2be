#!/usr/bin/env python3
"""The same random changes of names in two directories, one native and one on the mount: each call must end with
the same errno, and both trees must look the same.

Usage: names_model.py NATIVE MOUNTED SEED STEPS [--compare-only]
"""
import ctypes
import errno
import os
import random
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
NAMES = ["a", "b", "c", "d", "e", "f" * 255, "\udcff\n"]


def renameat2(source, target, flags):
    if libc.renameat2(-100, os.fsencode(source), -100, os.fsencode(target), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def write(path, flags, data):
    fd = os.open(path, flags, 0o644)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def outcome(change, root, paths):
    try:
        change(*[root + "/" + p for p in paths])
        return "ok"
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e.errno))


def some_path(r):
    return "/".join(r.choice(NAMES) for _ in range(r.choice((1, 1, 1, 2, 2, 3)))) + r.choice(["", "", "", "", "/"])


def some_change(r):
    """Its name, the function, and how many paths it takes."""
    data = r.randbytes(r.choice((0, 1, 4096, 10000)))
    mode = r.choice((0o755, 0o700, 0o1777, 0o2755, 0o4711, 0o644))
    when = r.randrange(1, 2**33)
    target = r.choice(NAMES + ["../a", "a/b", "nowhere/x"])
    flags = r.choice((0, 0, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY))
    return r.choice((
        ("mkdir", os.mkdir, 1), ("mkdir", os.mkdir, 1), ("rmdir", os.rmdir, 1), ("unlink", os.unlink, 1),
        ("rename", os.rename, 2), ("rename", os.rename, 2),
        ("noreplace", lambda a, b: renameat2(a, b, 1), 2), ("exchange", lambda a, b: renameat2(a, b, 2), 2),
        ("both", lambda a, b: renameat2(a, b, 3), 2),
        ("link", lambda a, b: os.link(a, b, follow_symlinks=False), 2),
        ("symlink", lambda a: os.symlink(target, a), 1),
        (f"create {flags:o}", lambda a: write(a, os.O_CREAT | os.O_WRONLY | flags, data), 1),
        (f"create {flags:o}", lambda a: write(a, os.O_CREAT | os.O_WRONLY | flags, data), 1),
        (f"write {flags:o}", lambda a: write(a, os.O_WRONLY | flags, data), 1),
        ("truncate", lambda a: os.truncate(a, 777), 1),
        (f"chmod {mode:o}", lambda a: os.chmod(a, mode), 1),
        ("chown", lambda a: os.lchown(a, when % 7, when % 5), 1),
        ("utime", lambda a: os.utime(a, ns=(when, when), follow_symlinks=False), 1),
        ("rmdir of all", lambda a: [os.rmdir(a + "/" + n) for n in sorted(os.listdir(a))], 1),
    ))


def tree(root):
    """What both must show. Names of one file are told by the first of them; times only of files (those of directories
    are when the changes were made)."""
    seen, first = {}, {}
    for folder, folders, files in os.walk(root):
        for name in sorted(folders) + sorted(files):
            path = os.path.join(folder, name)
            st = os.lstat(path)
            short = path[len(root):]
            what = [stat.filemode(st.st_mode), st.st_uid, st.st_gid]
            if stat.S_ISLNK(st.st_mode):
                what += [os.readlink(path), st.st_size, st.st_nlink]
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    what += [st.st_size, st.st_nlink, f.read()]
            if not stat.S_ISDIR(st.st_mode):
                first.setdefault(st.st_ino, []).append(short)
            seen[short] = what
    for group in first.values():
        for short in group:
            seen[short].append(min(group))
    return seen


def compare(native, mounted, when):
    want, got = tree(native), tree(mounted)
    for path in sorted(set(want) | set(got)):
        if want.get(path) != got.get(path):
            def short(x):
                return x and [y[:20] + b"..." if isinstance(y, bytes) and len(y) > 20 else y for y in x]
            sys.exit(f"{when}: {path!r}: want {short(want.get(path))}, got {short(got.get(path))}")


def main():
    native, mounted, seed, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    compare(native, mounted, f"seed {seed}: before")
    if "--compare-only" in sys.argv:
        return
    os.umask(0o022)
    r = random.Random(seed)
    history = []
    for step in range(steps):
        name, change, count = some_change(r)
        paths = [some_path(r) for _ in range(count)]
        want = outcome(change, native, paths)
        got = outcome(change, mounted, paths)
        history.append(f"{step} {name} {paths} {want}")
        if want != got:
            print("\n".join(history[-15:]))
            sys.exit(f"seed {seed}, step {step}: {name} {paths}: want {want}, got {got}")
        if step % 200 == 199:
            try:
                compare(native, mounted, f"seed {seed}, step {step}")
            except SystemExit:
                print("\n".join(history[-200:]))
                raise
    compare(native, mounted, f"seed {seed}: in the end")


main()
