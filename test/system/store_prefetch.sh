#!/bin/bash
# What is read ahead is read: nothing is brought twice, a small read brings little, random reads what was asked for,
# and memory stays within its bounds. Counted by the server that the bytes come from.
# limit: 240 seconds
. "$(dirname "$0")/lib.sh"
need jq nbdkit nbdcopy nbdinfo qemu-io fio curl
need_fuse

SIZE=$((192 * 1024 * 1024))
IMAGE=$TEST_DIR/image
LOG=$TEST_DIR/nbdkit.log
SOCKET=$TEST_DIR/up.sock
make_random "$IMAGE" "$SIZE"
is_up() { nbdinfo --size "nbd+unix:///?socket=$SOCKET" >/dev/null 2>&1; }
serve() {
  : >"$LOG"
  rm -f "$SOCKET"
  in_background nbdkit -f -U "$SOCKET" --filter=log file "$IMAGE" logfile="$LOG" logappend=true
  wait_until 30 is_up || fail "nbdkit does not answer"
}
# within VALUE LEAST MOST WHAT
within() { (($1 >= $2 && $1 <= $3)) || fail "$4: $1, and not $2 to $3"; }
# fetched: the bytes that the server was asked for since forget().
fetched() {
  local sum=0 count
  while read -r count; do sum=$((sum + count)); done \
    < <(sed -nE 's/.* Read id=[0-9]+ offset=0x[0-9a-f]+ count=(0x[0-9a-f]+).*/\1/p' "$LOG")
  echo "$sum"
}
forget() { : >"$LOG"; }
metric() { curl -fsS "http://$METRICS/metrics" | awk -v name="$1" '$1 == name { printf "%d\n", $2 }'; }
# start OPTION...: a daemon with an empty cache.
start() {
  rm -rf "$STORE"
  start_daemon "$@"
  METRICS=$(ctl --json status | jq -r '.listeners[] | select(.door == "metrics").address | sub("^tcp:"; "")')
  mount_at "$MNT"
  forget
}
end() {
  unmount_at "$MNT"
  stop_daemon
}
uri() { nbd_uri origins/up/default; }
FILE=$MNT/origins/up/default

serve
write_config
cat >>"$CONFIG" <<TOML
[[origin]]
name = "up"
type = "nbd"
url = "nbd+unix:///?socket=$SOCKET"
immutable = true
TOML

# A small read in the middle brings its pages and no more.
start
qemu-io -f raw -r -c "read 100M 4k" "$(uri)" >/dev/null
within "$(fetched)" 4096 65536 "bytes for a read of 4 KiB and what qemu-io looks at by itself"

# In sequence, through each door: the same bytes, each fetched once, and what was brought ahead was read.
for door in nbd fuse; do
  end
  start
  if [[ $door == nbd ]]; then
    nbdcopy --connections=1 --requests=1 --request-size=131072 "$(uri)" "$TEST_DIR/copy"
  else
    cp "$FILE" "$TEST_DIR/copy"
  fi
  expect_same "$IMAGE" "$TEST_DIR/copy" "a sequential read through $door"
  within "$(fetched)" "$SIZE" "$SIZE" "bytes fetched for a sequential read through $door"
  ahead=$(metric blobcache_prefetched_pages_total)
  used=$(metric 'blobcache_prefetch_pages_total{end="used"}')
  # (The kernel of a mount reads ahead by itself, too, and may come first.)
  within "$ahead" $((SIZE / 4096 / 3)) $((SIZE / 4096)) "pages that were brought ahead through $door"
  within "$used" $((ahead * 95 / 100)) "$ahead" "of those, read"
  within "$(metric blobcache_prefetch_unread_bytes)" 0 0 "bytes unread at the end"
done

# Random reads of 4 KiB: what was asked for and at most a tenth more.
end
start
fio --name=random --ioengine=nbd --uri="$(uri)" --rw=randread --bs=4k --iodepth=8 --number_ios=6000 \
  --size="$SIZE" --randseed=7 --output-format=json >"$TEST_DIR/fio.json"
asked=$(sed -n '/^{/,$p' "$TEST_DIR/fio.json" | jq '.jobs[0].read.io_bytes')
within "$(fetched)" $((asked * 9 / 10)) $((asked * 11 / 10)) "bytes fetched for random reads of $asked bytes"

# Several readers of one file at once, with memory for a part of it.
end
start --set store.memory=32MiB
for at in 0 48 96 144; do
  in_background cmp -n $((48 << 20)) -i $((at << 20)) "$IMAGE" "$FILE"
  readers+=("$BACKGROUND_PID")
done
for pid in "${readers[@]}"; do wait "$pid" || fail "a reader of four has read other bytes"; done
within "$(fetched)" "$SIZE" $((SIZE * 11 / 10)) "bytes fetched by four readers"
within "$(ctl --json status | jq .memory.used)" 0 $((32 << 20)) "bytes in memory"
within "$(metric blobcache_prefetch_unread_bytes)" 0 $((10 << 20)) "bytes ahead, of a quarter of the memory"

# Switched off, nothing is brought that nobody asked for.
end
start --set prefetch.enabled=false
nbdcopy --connections=1 --requests=1 --request-size=131072 "$(uri)" "$TEST_DIR/copy"
expect_same "$IMAGE" "$TEST_DIR/copy" "a sequential read without reading ahead"
within "$(metric blobcache_prefetched_pages_total)" 0 0 "pages brought ahead"
end
