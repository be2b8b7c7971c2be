#!/bin/bash
# scrub lists what is damaged on disk, byte for byte and nothing else; a page map that can be made again is; what is
# not damaged goes on being read.
. "$(dirname "$0")/lib.sh"
need jq curl

cd "$TEST_DIR"
start_daemon
make_random rotten 8M
make_random mapless 8M
make_random small 300000
make_random cut 300000
make_random good 5M
make_random unnamed 200000
for name in rotten mapless small cut good; do ctl put $name --name "set/$name" >/dev/null; done
ctl name other/rotten "sha256:$(sha256_of rotten)"
ctl put unnamed >/dev/null
truncate -s 64M hole && ctl put hole --name hole >/dev/null

# object_of FILE: where the store keeps the file's bytes.
object_of() { find "$STORE/objects" -name "$(sha256_of "$1").*" ! -name '*.map'; }

# flip FILE OFFSET: one byte becomes another.
flip() {
  local byte
  byte=$(od -An -tu1 -j "$2" -N 1 "$1")
  printf '%b' "\\x$(printf %x $((byte ^ 64)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# Nothing is damaged, and everything on the disk was read, past the memory tier.
resident=$(status_of .memory.used)
ctl scrub --rate unlimited >out
expect_equal 1 "$(wc -l <out)" "lines about a clean store"
grep -q '^7 objects, .*: no damage$' out || fail "a clean store: $(cat out)"
ctl --json scrub --rate 0 >json
jq -e '.path == "" and .objects == 7 and .damaged == [] and .damaged_objects == 0 and .damaged_pages == 0
  and .repaired_maps == 0 and .bytes > 22000000 and .pages > 21000 and .seconds >= 0' json >/dev/null ||
  fail "JSON of a clean store: $(cat json)"
expect_equal "$resident" "$(status_of .memory.used)" "memory used after a scrub"
ctl status | grep -Eq '^scrub .* 7 objects .* 0 damaged' || fail "status after a scrub"

# Damage of every kind.
flip "$(object_of rotten)" 5000
flip "$(object_of rotten)" 8200
flip "$(object_of rotten)" 4194304
flip "$(object_of mapless).map" 4200
rm "$(object_of small)"
truncate -s 100000 "$(object_of cut)"
flip "$(object_of unnamed)" 199999

status=0
ctl --json scrub --rate unlimited >json 2>err || status=$?
expect_equal 1 "$status" "status of a scrub that found damage"
expect_equal 'blobcachectl: scrub: 5 of 7 objects damaged' "$(cat err)" "what it said"
# damaged NAME FILTER: the one entry of a file's digest is as FILTER says.
damaged() {
  jq -e --arg digest "sha256:$(sha256_of "$1")" \
    ".damaged | map(select(.digest == \$digest)) | length == 1 and (.[0] | $2)" json >/dev/null ||
    fail "what is said of $1: $(jq -c .damaged json)"
}
jq -e '.objects == 7 and .damaged_objects == 5 and (.damaged | length) == 5 and .repaired_maps == 1
  and .damaged_pages == 3 + 74 + 50 + 1' json >/dev/null || fail "totals: $(jq -c 'del(.damaged)' json)"
damaged rotten '.names == ["files/set/rotten", "files/other/rotten"] and .size == 8388608 and .pages == 3
  and .ranges == [{offset: 4096, length: 8192}, {offset: 4194304, length: 4096}]
  and (.reason | test("checksum")) and (.map_repaired | not)'
damaged mapless '.ranges == [] and .pages == 0 and .map_repaired and (.reason | test("made again"))'
damaged small '.ranges == [{offset: 0, length: 300000}] and (.reason | test("gone"))'
damaged cut '.ranges == [{offset: 98304, length: 201696}] and (.reason | test("cut short"))'
damaged unnamed '.names == [] and .ranges == [{offset: 196608, length: 3392}]'

# The same for people: an object a line, its ranges beneath it, the totals last.
expect_fail 1 '^blobcachectl: scrub: 4 of 7 objects damaged$' ctl scrub --rate unlimited
out=$TEST_DIR/expect.out
line="files/set/rotten, files/other/rotten, sha256:$(sha256_of rotten): pages do not match their checksums"
grep -Fxq "$line" "$out" || fail "text: $(cat "$out")"
grep -Fxq '  8192 bytes at 4096' "$out" || fail "ranges: $(cat "$out")"
grep -q "^sha256:$(sha256_of unnamed): " "$out" || fail "a blob without a name: $(cat "$out")"
tail -n 1 "$out" | grep -Eq '^7 objects, .* 4 damaged, 128 damaged pages$' || fail "the last line: $(tail -n 1 "$out")"

# A file, a blob, a directory.
ctl scrub files/set/good >/dev/null
ctl scrub files/set/mapless >/dev/null
ctl scrub /files/hole | grep -q '^1 object, ' || fail "one file"
expect_fail 1 'scrub files/set/rotten: 1 of 1 object damaged' ctl scrub files/set/rotten
expect_fail 1 '1 of 1 object damaged' ctl scrub "sha256:$(sha256_of unnamed)"
expect_fail 1 'scrub files/set: 3 of 5 objects damaged' ctl scrub files/set
expect_fail 1 'scrub files: 3 of 6 objects damaged' ctl scrub files
expect_fail 1 'scrub blobs: 4 of 7 objects damaged' ctl scrub blobs
ctl scrub origins | grep -q '^0 objects' || fail "an empty directory"

# Status and metrics remember the last one.
ctl scrub files/other >/dev/null 2>&1 && fail "files/other is damaged"
ctl --json status | jq -e '.scrub | .running == false and .last.path == "files/other" and .last.damaged_pages == 3
  and .last.objects == 1 and (.last.ended | endswith("Z"))' >/dev/null || fail "status of the last scrub"
port=$(sed -n 's/.*metrics listens on tcp:127\.0\.0\.1:\([0-9]*\).*/\1/p' "$DAEMON_LOG")
curl -sf "http://127.0.0.1:$port/metrics" >metrics
grep -q '^blobcache_scrub_last_damaged_pages 3$' metrics || fail "metrics"
grep -Eq '^blobcache_scrub_damaged_pages_total [1-9]' metrics || fail "metrics"
grep -Eq '^blobcache_scrub_checked_pages_total [1-9]' metrics || fail "metrics"
grep -Eq '^blobcache_scrub_last_end_time_seconds 1' metrics || fail "metrics"

# What is not damaged is read, before and after a restart, which finds the page map that was made again.
for _ in 1 2; do
  ctl get files/set/mapless | cmp - mapless || fail "mapless"
  ctl get files/set/good | cmp - good || fail "good"
  ctl get files/set/rotten --length 4096 | cmp - <(head -c 4096 rotten) || fail "before the damage"
  ctl get files/set/rotten --offset 12288 --length 4182016 | cmp - <(tail -c +12289 rotten | head -c 4182016) ||
    fail "behind the damage"
  expect_fail 1 'damaged' ctl get files/set/rotten -o part
  stop_daemon
  start_daemon
done
ctl scrub files/set/mapless >/dev/null

# A put makes it whole.
for name in rotten small cut unnamed; do ctl put $name >/dev/null; done
ctl scrub --rate unlimited | grep -q ': no damage$' || fail "after the puts"
stop_daemon
