#!/bin/bash
# A volume that finds no room answers ENOSPC, keeps what it has, and goes on when there is room again.
. "$(dirname "$0")/lib.sh"
need jq nbdcopy qemu-io

start_daemon --set store.volumes=4MiB
ctl volume create disk --size 64MiB >/dev/null
uri=$(nbd_uri volumes/disk)
io() { qemu-io -f raw -c "$1" "$uri" >"$TEST_DIR/io" 2>&1; }
wrote() { grep -q "^wrote $1/$1 bytes" "$TEST_DIR/io" || fail "$2: $(cat "$TEST_DIR/io")"; }

io "write -P 0x11 0 3M"
wrote 3145728 "what has room cannot be written"
io "write -P 0x22 8M 2M" || true
grep -q 'No space left' "$TEST_DIR/io" || fail "no room is not ENOSPC: $(cat "$TEST_DIR/io")"
expect_equal 3145728 "$(nbdcopy "$uri" - | head -c 3145728 | tr -cd '\021' | wc -c)" "bytes of the first write"
io "write -P 0x33 0 1M"
wrote 1048576 "what has its room cannot be written again"
io "write -z -u 0 3M"
io "write -P 0x44 16M 1M"
wrote 1048576 "room that was given back is not there"
(($(ctl --json volume ls | jq .used) <= 4 << 20)) || fail "more in use than the budget has"
stop_daemon
