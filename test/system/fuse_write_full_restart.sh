#!/bin/bash
# What was written before the file system was full is read right after a kill, or not at all while it is full; and right
# as soon as there is room, without another start.
. "$(dirname "$0")/lib.sh"
need mkfs.ext4
need_fuse
need_loop

truncate -s 120M "$TEST_DIR/image"
mkfs.ext4 -q -F "$TEST_DIR/image"
mkdir "$STORE"
mount -o loop "$TEST_DIR/image" "$STORE"
start() {
  start_daemon --set store.disk=90MiB --set store.volumes=90MiB --set store.settle_after=1h
  mount_at "$MNT"
}
start
make_random "$TEST_DIR/big" 100M
sums() { (cd "$MNT/files" && find . -type f -exec sha256sum {} + | sort); }
for round in 1 2; do
  mkdir "$MNT/files/$round"
  cp "$TEST_DIR/big" "$MNT/files/$round/fill" 2>/dev/null && fail "100 MB fit into 90 MiB"
  truncate -s -400K "$MNT/files/$round/fill"
  for i in $(seq 60); do
    # Some find no room, and are empty or not there.
    (echo "$round $i" >"$MNT/files/$round/$i") 2>/dev/null || true
  done
  sums >"$TEST_DIR/sums" || fail "round $round: reading it before the kill"
  # Somebody else takes the rest of the file system.
  dd if=/dev/zero of="$STORE/other" bs=4k status=none 2>/dev/null && fail "the file system is endless"
  kill_daemon
  start
  # To open what had not settled takes a little room.
  while read -r sum file; do
    got=$(sha256sum <"$MNT/files/$file" 2>/dev/null | cut -d' ' -f1) || continue
    [[ $got == "$sum" ]] || fail "round $round: $file is something else while the file system is full"
  done <"$TEST_DIR/sums"
  rm "$STORE/other"
  diff "$TEST_DIR/sums" <(sums) || fail "round $round: what was there before the kill"
done
rm -r "$MNT/files/1"
sed -i '/ .\/1\//d' "$TEST_DIR/sums"
diff "$TEST_DIR/sums" <(sums) || fail "after room was made"
unmount_at "$MNT"
stop_daemon
