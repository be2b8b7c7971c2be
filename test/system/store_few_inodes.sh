#!/bin/bash
# A file system that runs out of inodes refuses puts with one clear line; the rest goes on.
. "$(dirname "$0")/lib.sh"
need jq mount
need_root

mkdir -p "$STORE"
# The store's own folders take most of these.
mount -t tmpfs -o size=64m,nr_inodes=340 tmpfs "$STORE"
start_daemon --set store.disk_reserve=5%
names=()
for ((i = 0; i < 200; i++)); do
  echo "blob $i" >"$TEST_DIR/blob"
  status=0
  ctl put "$TEST_DIR/blob" --name "n$i" >/dev/null 2>"$TEST_DIR/err" || status=$?
  if ((status != 0)); then break; fi
  names+=("n$i")
done
((status == 1)) || fail "200 puts went into a file system of 340 inodes"
((${#names[@]} > 0)) || fail "no put at all went: $(cat "$TEST_DIR/err")"
grep -q '^blobcachectl: .*short of inodes: [0-9]* of 340 free' "$TEST_DIR/err" ||
  fail "the error: $(cat "$TEST_DIR/err")"
expect_equal 1 "$(wc -l <"$TEST_DIR/err")" "lines of the error"
(($(stat -f -c %d "$STORE") >= 17)) || fail "the reserve of inodes was used: $(stat -f -c %d "$STORE") are left"
for name in "${names[@]}"; do ctl get "files/$name" >/dev/null; done

# What is removed makes room.
digest=$(ctl --json stat "files/${names[0]}" | jq -r .digest)
ctl rm "files/${names[0]}"
ctl rm "blobs/${digest#sha256:}"
ctl put "$TEST_DIR/blob" --name again >/dev/null
stop_daemon
