#!/bin/bash
# A file that is open and has lost its name is as on any file system: its attributes can be told and changed. A
# directory that was removed takes no new names.
. "$(dirname "$0")/lib.sh"
need python3
need_fuse
need_root

start_daemon
mount_at "$MNT"
python3 - "$MNT/files" <<'PY' || fail "what is open without a name"
import os, sys

folder = sys.argv[1]
bad = 0


def check(what, call):
    global bad
    try:
        call()
    except (OSError, AssertionError) as e:
        print(f"{what}: {e or 'is not as it should be'}")
        bad += 1


def same(got, want):
    assert got == want, f"{got}, want {want}"


def file_of(fd, how):
    check(f"{how}: fchmod", lambda: os.fchmod(fd, 0o640))
    check(f"{how}: fchown", lambda: os.fchown(fd, 3, 4))
    check(f"{how}: ftruncate", lambda: os.ftruncate(fd, 10))
    check(f"{how}: futimens", lambda: os.utime(fd, (5, 6)))
    st = os.fstat(fd)
    told = (st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_mtime, st.st_size, st.st_nlink)
    check(f"{how}: fstat", lambda: same(told, (0o640, 3, 4, 6, 10, 0)))
    check(f"{how}: write", lambda: os.pwrite(fd, b"x", 20))
    check(f"{how}: fsync", lambda: os.fsync(fd))
    check(f"{how}: open again", lambda: same(os.read(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY), 100)[-1:], b"x"))
    os.close(fd)


one = os.open(folder + "/one", os.O_RDWR | os.O_CREAT)
os.unlink(folder + "/one")
file_of(one, "removed")
two = os.open(folder + "/two", os.O_RDWR | os.O_CREAT)
with open(folder + "/three", "w") as f:
    f.write("three")
os.rename(folder + "/three", folder + "/two")
file_of(two, "renamed over")

os.mkdir(folder + "/d")
d = os.open(folder + "/d", os.O_RDONLY)
os.rmdir(folder + "/d")
check("a removed directory: fsync", lambda: os.fsync(d))
try:
    os.open("x", os.O_CREAT | os.O_RDWR, dir_fd=d)
    check("a removed directory", lambda: same("took a file", "ENOENT"))
except FileNotFoundError:
    pass
sys.exit(bad > 0)
PY
unmount_at "$MNT"
stop_daemon
