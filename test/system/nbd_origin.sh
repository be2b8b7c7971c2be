#!/bin/bash
# Exports of real NBD servers are read, cached and written through at every door, and outlive their server's death.
. "$(dirname "$0")/lib.sh"
need jq nbdkit qemu-nbd qemu-img qemu-io nbdcopy nbdinfo
need_fuse

UP=$TEST_DIR/up
LOG=$TEST_DIR/up.log
RAW=$TEST_DIR/raw
declare -A SERVERS=()

upstream() { echo "nbd+unix:///$2?socket=$UP.$1"; }

is_up() { nbdinfo --size "$1" >/dev/null 2>&1; }

# serve NAME EXPORT CMD...: starts a server, or the same again, and waits until it answers.
serve() {
  local name=$1 export=$2
  shift 2
  rm -f "$UP.$name"
  in_background "$@"
  SERVERS[$name]=$BACKGROUND_PID
  wait_until 60 is_up "$(upstream "$name" "$export")" || fail "the server $name does not answer"
}
serve_file() { serve file disk nbdkit -f -U "$UP.file" --filter=log file "$RAW" logfile="$LOG" logappend=true; }

# end_server NAME: SIGKILL, as if it had crashed.
end_server() {
  # The shell would say "Killed" on stderr.
  {
    end_process "${SERVERS[$1]}" KILL 10 || true
    wait "${SERVERS[$1]}" || true
  } 2>/dev/null
}

# reads_at OFFSET: the lengths of the reads that the server of the file got there.
reads_at() { sed -nE "s/.* Read id=[0-9]+ offset=$1 count=(0x[0-9a-f]+).*/\1/p" "$LOG"; }
count_reads() { grep -cE ' Read id=[0-9]+ offset=' "$LOG" || true; }

make_random "$RAW" 9M
qemu-img create -q -f qcow2 "$TEST_DIR/q.qcow2" 16M
serve_file
make_random "$TEST_DIR/nameless" 1M
serve nameless "" qemu-nbd -t -e 16 -r -k "$UP.nameless" -f raw "$TEST_DIR/nameless"
serve qcow disk qemu-nbd -t -e 16 -k "$UP.qcow" -x disk -f qcow2 "$TEST_DIR/q.qcow2"

write_config
cat >>"$CONFIG" <<TOML
[[origin]]
name = "up"
type = "nbd"
url = "$(upstream file disk)"

[[origin]]
name = "fixed"
type = "nbd"
url = "$(upstream file disk)"
immutable = true

[[origin]]
name = "img"
type = "nbd"
url = "$(upstream qcow "")"
read_only = false

[[origin]]
name = "late"
type = "nbd"
url = "$(upstream late disk)"
connect_timeout = "5s"

[[origin]]
name = "nameless"
type = "nbd"
url = "$(upstream nameless "")"

[[origin]]
name = "keyless"
type = "nbd"
url = "nbds+unix://me@/disk?socket=$UP.file"
tls_psk = "$TEST_DIR/no-key"
TOML
start_daemon
# What it lacks may come later; it is told now.
wait_for_log "warning origin keyless: .*tls_psk: $TEST_DIR/no-key: No such file"
mount_at "$MNT"

# One of them is away: its names fail, all else is there.
expect_fail 1 'late' ctl get origins/late/disk -o "$TEST_DIR/none"
expect_fail any 'error|No such' cat "$MNT/origins/late/disk"
[[ $(ls "$MNT/origins/up") == disk ]] || fail "the listing of an origin"

# An export without a name has one here.
[[ $(ls "$MNT/origins/nameless") == default ]] || fail "the listing of an export without a name"
expect_same "$TEST_DIR/nameless" "$MNT/origins/nameless/default" "an export without a name"

# 4 KiB cost 4 KiB, once.
: >"$LOG"
qemu-io -r -f raw -c 'read 1M 4k' -c 'read 1M 4k' "$(nbd_uri origins/up/disk)" >/dev/null
expect_equal 0x1000 "$(reads_at 0x100000)" "what 4 KiB read twice moved"

# The same bytes at every door.
nbdcopy "$(nbd_uri origins/up/disk)" "$TEST_DIR/copy"
expect_same "$RAW" "$TEST_DIR/copy" "nbdcopy"
qemu-img compare -q -f raw -F raw "$RAW" "$(nbd_uri origins/up/disk)" || fail "qemu-img compare"
expect_same "$RAW" "$MNT/origins/up/disk" "FUSE"
ctl get origins/up/disk -o "$TEST_DIR/got"
expect_same "$RAW" "$TEST_DIR/got" "blobcachectl get"

# An image is written through, and who has it open sees it.
exec 9<"$MNT/origins/img/disk"
head -c 65536 <&9 >/dev/null
qemu-io -f raw -c 'write -P 0x5a 4097 100000' -c 'write -z 1M 64k' -c 'write -f -P 7 2M 4k' -c flush \
  "$(nbd_uri origins/img/disk)" >/dev/null
for uri in "$(upstream qcow disk)" "$(nbd_uri origins/img/disk)"; do
  qemu-io -r -f raw -c 'read -P 0x5a 4097 100000' -c 'read -P 0 1M 64k' -c 'read -P 7 2M 4k' "$uri" \
    >"$TEST_DIR/io" 2>&1 || fail "what was written is not there: $uri"
  if grep -q 'verification failed' "$TEST_DIR/io"; then fail "other bytes: $uri"; fi
done
dd if="/proc/self/fd/9" bs=1 skip=5000 count=16 status=none | od -An -tx1 >"$TEST_DIR/seen"
expect_equal 16 "$(grep -o 5a "$TEST_DIR/seen" | wc -l)" "what FUSE sees of a write"
exec 9<&-
qemu-img compare -q -f raw -F raw "$(upstream qcow disk)" "$(nbd_uri origins/img/disk)" || fail "the image differs"

# The server dies while it is read, and comes back.
exec 9<"$MNT/origins/up/disk"
head -c 4096 <&9 >/dev/null
end_server file
: >"$LOG"
# Through NBD, since the kernel may have the file's pages; fd 9 keeps the export open, so that its name is known.
in_background nbdcopy "$(nbd_uri origins/up/disk)" "$TEST_DIR/through"
copier=$BACKGROUND_PID
serve_file
wait "$copier" || fail "a read did not outlive its server"
exec 9<&-
expect_same "$RAW" "$TEST_DIR/through" "what was read while the server was away"
(($(count_reads) > 0)) || fail "the server that came back was not asked"

# What is immutable is there after a restart, and can be the base of a volume.
expect_same "$RAW" "$MNT/origins/fixed/disk" "immutable"
unmount_at "$MNT"
stop_daemon
start_daemon
: >"$LOG"
ctl get origins/fixed/disk -o "$TEST_DIR/again"
expect_same "$RAW" "$TEST_DIR/again" "after a restart"
expect_equal 0 "$(count_reads)" "reads of what the disk has"
ctl volume create v --base origins/fixed/disk
qemu-io -f raw -c 'write -P 1 4k 4k' "$(nbd_uri volumes/v)" >/dev/null
qemu-io -r -f raw -c 'read -P 1 4k 4k' "$(nbd_uri volumes/v)" | grep -q 'read 4096' || fail "the volume's own bytes"
nbdcopy "$(nbd_uri volumes/v)" "$TEST_DIR/volume"
cmp <(tail -c +8193 "$RAW") <(tail -c +8193 "$TEST_DIR/volume") || fail "the volume's base"
expect_fail 1 'origins/up|lasting|immutable' ctl volume create w --base origins/up/disk

# The one that was away comes.
serve late disk nbdkit -f -U "$UP.late" file "$RAW"
ctl get origins/late/disk -o "$TEST_DIR/late"
expect_same "$RAW" "$TEST_DIR/late" "an origin that came later"
stop_daemon
