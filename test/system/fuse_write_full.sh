#!/bin/bash
# A write that finds no room leaves nothing in the file but what it answered, and all else as it was.
. "$(dirname "$0")/lib.sh"
need python3
need_fuse
need_root

start_daemon --set store.volumes=8MiB --set store.settle_after=1h
mount_at "$MNT"
python3 - "$MNT/files" <<'PY' || fail "a write without room"
import os, sys

folder = sys.argv[1]
fill = os.open(folder + "/fill", os.O_CREAT | os.O_RDWR)
bad = 0
for left in (1, 2, 3, 5, 8, 20, 63, 64, 65):
    os.ftruncate(fill, 0)
    end = 0
    while True:
        try:
            end += os.pwrite(fill, b"f" * 4096, end)
        except OSError:
            break
    os.ftruncate(fill, end - left * 4096)
    for before, length, append in ((0, 200000, False), (0, 20000, True), (1000, 20000, False), (1000, 20000, True),
                                   (4096, 300000, False), (130000, 200000, False), (130000, 400000, True)):
        path = folder + "/b"
        with open(path, "wb"):
            pass
        fd = os.open(path, os.O_RDWR | (os.O_APPEND if append else 0))
        os.ftruncate(fd, before)
        try:
            answer = os.write(fd, b"w" * length) if append else os.pwrite(fd, b"w" * length, before)
        except OSError as e:
            answer = 0
        want = b"\0" * before + b"w" * answer
        got = os.pread(fd, 10**7, 0)
        if got != want or os.fstat(fd).st_size != len(want):
            print(f"{left} pages left: a write of {length} at {before} answered {answer}, and the file "
                  f"has {len(got)} bytes, {got.count(b'w')} of them new")
            bad += 1
        os.unlink(path)
        os.close(fd)
if os.pread(fill, 10**8, 0).strip(b"f"):
    print("the file that filled it has changed")
    bad += 1
sys.exit(bad > 0)
PY
unmount_at "$MNT"
stop_daemon
