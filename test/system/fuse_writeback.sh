#!/bin/bash
# A mount with a writeback cache holds back what is written; what was synced or closed is here, also after a kill, for
# other doors, and after the mount's end. It is refused where it would hide what others write.
# limit: 180 seconds
. "$(dirname "$0")/lib.sh"
need jq python3 sqlite3
need_fuse
need_root

start_daemon
mkdir -p "$MNT" "$TEST_DIR/other" "$TEST_DIR/none"

# Where it may be.
for subtree in '' volumes origins; do
  expect_fail 1 'only for a subtree of files/' ctl mount --writeback-cache --subtree "$subtree" "$TEST_DIR/none"
done
expect_fail 1 'read-only' ctl mount --writeback-cache --read-only --subtree files "$TEST_DIR/none"
ctl mount --writeback-cache --subtree files "$MNT"
mount_at "$TEST_DIR/other"
expect_equal '[true,false]' \
  "$(ctl --json status | jq -c '[.mounts | sort_by(.mountpoint)[] | .writeback_cache]')" "what status tells"
ctl status | grep -q 'files, writeback_cache' || fail "status for people"

# A record at a time: few requests, and all there for the other mount once the file is closed.
python3 - "$MNT/log" <<'PY'
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for i in range(20000):
    os.write(file, b"record %d\n" % i)
os.close(file)
PY
seq -f 'record %.0f' 0 19999 >"$TEST_DIR/log"
expect_same "$TEST_DIR/log" "$TEST_DIR/other/files/log" "what another mount reads of a file that was closed"
ctl get files/log -o "$TEST_DIR/got"
expect_same "$TEST_DIR/log" "$TEST_DIR/got" "blobcachectl get"

# A kill: what was synced is there, and so is what was closed; of the rest any part may be.
python3 - "$MNT" "$TEST_DIR/written" <<'PY' &
import os, signal, sys
os.chdir(sys.argv[1])
synced = os.open("synced", os.O_RDWR | os.O_CREAT)
os.write(synced, b"s" * 1000000)
os.fsync(synced)
with open("closed", "wb") as closed:
    closed.write(b"c" * 1000000)
held = os.open("held", os.O_RDWR | os.O_CREAT)
os.write(held, b"h" * 100000)
os.pwrite(synced, b"S" * 10, 500000)
open(sys.argv[2], "w").close()
signal.pause()
PY
writer=$!
BACKGROUND_PIDS+=("$writer")
wait_until 30 test -e "$TEST_DIR/written" || fail "the writer did not get that far"
kill_daemon
end_process "$writer" KILL 5
start_daemon
umount -l "$MNT" 2>/dev/null || true
ctl mount --writeback-cache --subtree files "$MNT"
umount -l "$TEST_DIR/other" 2>/dev/null || true
mount_at "$TEST_DIR/other"
python3 - "$MNT" <<'PY' || fail "what is there after a kill"
import sys
bytes_of = lambda name: open(sys.argv[1] + "/" + name, "rb").read()
assert bytes_of("closed") == b"c" * 1000000
synced = bytes_of("synced")
assert len(synced) == 1000000 and synced.replace(b"S", b"s") == b"s" * 1000000
assert set(bytes_of("held")) <= set(b"h\0") and len(bytes_of("held")) <= 100000
PY
expect_same "$TEST_DIR/log" "$MNT/log" "an older file after a kill"

# A database that is killed with the daemon, in both of its modes: each transaction that was answered is there.
for mode in delete wal; do
  sqlite3 "$MNT/$mode.db" "PRAGMA journal_mode=$mode; CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);" >/dev/null
done
python3 - "$MNT" "$TEST_DIR/answered" <<'PY' &
import sqlite3, sys
files = [sqlite3.connect(f"{sys.argv[1]}/{mode}.db", isolation_level=None) for mode in ("delete", "wal")]
for file in files:
    file.execute("PRAGMA synchronous=FULL")
answered = open(sys.argv[2], "w")
for i in range(100000):
    for file in files:
        file.execute("INSERT INTO t VALUES (?, hex(randomblob(1000)))", (i,))
    answered.write(f"{i}\n")
    answered.flush()
PY
writer=$!
BACKGROUND_PIDS+=("$writer")
enough() { (($(wc -l <"$TEST_DIR/answered" 2>/dev/null || echo 0) > 40)); }
wait_until 60 enough || fail "the database does not get on"
kill_daemon
end_process "$writer" KILL 5
last=$(tail -n 1 "$TEST_DIR/answered")
start_daemon
umount -l "$MNT" 2>/dev/null || true
ctl mount --writeback-cache --subtree files "$MNT"
for mode in delete wal; do
  expect_equal ok "$(sqlite3 "$MNT/$mode.db" 'PRAGMA integrity_check')" "integrity after a kill, $mode"
  (($(sqlite3 "$MNT/$mode.db" 'SELECT max(a) FROM t') >= last)) || fail "a transaction is lost, $mode"
done

# The end of the mount takes what is held back, though the file is open still.
exec {open}>"$MNT/open"
printf 'held back until the end' >&"$open"
ctl umount "$MNT"
exec {open}>&-
ctl get files/open -o "$TEST_DIR/got"
expect_equal 'held back until the end' "$(cat "$TEST_DIR/got")" "what an open file held when its mount ended"

# The same by mount(8)'s helper, and of the mount of the start.
ln -s "$(realpath "$BIN/blobcachectl")" "$TEST_DIR/mount.blobcache"
"$TEST_DIR/mount.blobcache" blobcache "$MNT" -o "writeback_cache,subtree=files,endpoint=unix:$GRPC_SOCKET"
expect_equal true "$(ctl --json status | jq --arg at "$MNT" '.mounts[] | select(.mountpoint == $at).writeback_cache')" \
  "the mount of the helper"
stop_daemon
expect_fail any 'fuse.writeback_cache: needs' daemon_once --check --set "fuse.mountpoint=$MNT" \
  --set fuse.writeback_cache=true
start_daemon --set "fuse.mountpoint=$MNT" --set fuse.subtree=files --set fuse.writeback_cache=true
expect_equal true "$(ctl --json status | jq '.mounts[0].writeback_cache')" "the mount of the start"
printf 'x' >"$MNT/last"
stop_daemon
start_daemon
expect_equal x "$(ctl get files/last)" "what was written through the mount of the start"
stop_daemon
