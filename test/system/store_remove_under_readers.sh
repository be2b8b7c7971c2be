#!/bin/bash
# Forgetting a blob takes its names and its disk space, never the bytes of who is reading it.
. "$(dirname "$0")/lib.sh"
need jq qemu-io mkfifo
need_fuse

# Far more than the RAM budget, so that the readers need the file that is removed.
size=$((96 * 1024 * 1024))
make_random "$TEST_DIR/image" "$size"
start_daemon --set store.memory=8MiB
before=$(status_of .disk.used)
digest=$(ctl put "$TEST_DIR/image" --name image | awk '{print $1}')
mount_at "$MNT"

# A reader at each door, in the middle of it.
exec 3<"$MNT/files/image"
head -c 1048576 <&3 >"$TEST_DIR/fuse.copy"

mkfifo "$TEST_DIR/pipe" "$TEST_DIR/commands"
# Both ends at once: opening one would wait for the other.
exec 4<>"$TEST_DIR/pipe" 5<>"$TEST_DIR/commands"
in_background "$BIN/blobcachectl" get files/image >&4
get_pid=$BACKGROUND_PID
exec 4<"$TEST_DIR/pipe"
head -c 1048576 <&4 >"$TEST_DIR/grpc.copy"

in_background qemu-io -r -f raw "$(nbd_uri files/image)" <&5 >"$TEST_DIR/nbd.out" 2>&1
nbd_pid=$BACKGROUND_PID
# nbd_read OFFSET LENGTH [OPTION]: one at a time, as qemu-io forgets lines that come together.
nbd_read() {
  echo "read ${3:-} $1 $2" >&5
  wait_until 20 grep -q "read $2/$2 bytes at offset $1" "$TEST_DIR/nbd.out" ||
    fail "qemu-io does not read $2 bytes at $1: $(tail -n 5 "$TEST_DIR/nbd.out")"
}
nbd_read 0 4096

ctl rm files/image
ctl rm "blobs/${digest#sha256:}"
expect_fail 1 'no such file' ctl stat files/image
expect_fail any 'No such file' cat "$MNT/blobs/${digest#sha256:}"
expect_equal "$before" "$(status_of .disk.used)" "disk used after the removal"
expect_equal 0 "$(find "$STORE/objects" -type f | wc -l)" "files left under objects/"

cat <&3 >>"$TEST_DIR/fuse.copy"
exec 3<&-
cat <&4 >>"$TEST_DIR/grpc.copy"
exec 4<&-
wait "$get_pid" || fail "get failed"
nbd_read "$((size / 2))" 1048576
nbd_read "$((size - 4096))" 512 -v
echo quit >&5
wait "$nbd_pid" || fail "qemu-io failed"
expect_same "$TEST_DIR/image" "$TEST_DIR/fuse.copy" "the open FUSE file"
expect_same "$TEST_DIR/image" "$TEST_DIR/grpc.copy" "the get under way"
tail -c 4096 "$TEST_DIR/image" | head -c 512 | od -An -v -tx1 | tr -d ' \n' >"$TEST_DIR/expected"
sed -E -n 's/^(qemu-io> )?[0-9a-f]{8,}:  (([0-9a-f]{2} ){16}).*/\2/p' "$TEST_DIR/nbd.out" |
  tr -d ' \n' >"$TEST_DIR/read"
expect_same "$TEST_DIR/expected" "$TEST_DIR/read" "what the open NBD export gives"

# A blob of the same content is a new one.
ctl put "$TEST_DIR/image" --name image >/dev/null
expect_same "$TEST_DIR/image" "$MNT/files/image" "the content put anew"
unmount_at "$MNT"
stop_daemon
