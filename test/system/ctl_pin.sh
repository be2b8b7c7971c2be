#!/bin/bash
# pin keeps a blob past its time, under pressure and over restarts, until unpin; evict drops no more than it may.
. "$(dirname "$0")/lib.sh"
need jq

cd "$TEST_DIR"
make_random pinned 3M
make_random named 1M
for i in 1 2 3 4 5 6; do make_random "fill$i" 1M; done
pinned=sha256:$(sha256_of pinned)
small=(--set store.disk=6MiB --set store.unnamed_ttl=1s)

# stat_of PATH FILTER: what stat says of a path, or of its pages.
stat_of() { ctl --json stat "$1" | jq -c "$2"; }
is_cached() { [[ $(stat_of "$1" .retention) == '"cached"' ]]; }

# --- A pinned blob stays; others whose time is over go for it.
start_daemon "${small[@]}"
expect_equal "$pinned" "$(ctl put pinned)" "digest of the put"
ctl pin "$pinned"
expect_equal '[true,"kept",null]' "$(stat_of "$pinned" '[.pinned, .retention, .expires]')" "a pinned blob"
ctl stat "$pinned" | grep -Eq '^retention +kept, pinned$' || fail "stat: $(ctl stat "$pinned")"
ctl ls -l blobs | grep -q '^-r--------p ' || fail "ls -l: $(ctl ls -l blobs)"
ctl pin "$pinned"
for i in 1 2 3 4 5 6; do
  ctl put "fill$i" >/dev/null
  wait_until 20 is_cached "sha256:$(sha256_of "fill$i")" || fail "fill$i is not cached after its time"
done
expect_fail 1 'no such' ctl stat "sha256:$(sha256_of fill1)"
ctl get "$pinned" | cmp - pinned || fail "the pinned blob under pressure"
ctl gc --expire-now | tail -n 1 | grep -q '^removed [1-9]' || fail "gc --expire-now took nothing"
ctl get "$pinned" | cmp - pinned || fail "the pinned blob after gc --expire-now"
expect_fail 1 "rm $pinned: .*pinned; \"blobcachectl unpin $pinned\"" ctl rm "$pinned"

# --- Beside it, a put that does not fit is refused.
make_random large 4M
expect_fail 1 'disk budget.*full: .*kept' ctl put large
ctl get "$pinned" | cmp - pinned || fail "the pinned blob after a put that was refused"

# --- It stays so over a stop and a kill.
stop_daemon
start_daemon "${small[@]}"
expect_equal true "$(stat_of "$pinned" .pinned)" "a pin after a restart"
kill_daemon
start_daemon "${small[@]}"
expect_equal true "$(stat_of "$pinned" .pinned)" "a pin after a kill"
ctl get "$pinned" | cmp - pinned || fail "the pinned blob after a kill"
kept=$(status_of .disk.kept)

# --- The pin is the blob's: names come and go.
ctl name held "$pinned"
expect_equal true "$(stat_of files/held .pinned)" "the pin, seen through a name"
ctl put named --name held >/dev/null
expect_equal '[false,true]' "$(jq -nc "[$(stat_of files/held .pinned), $(stat_of "$pinned" .pinned)]")" \
  "a name that was bound anew, and the blob that it held"
expect_equal $((kept + 1048576)) "$(status_of .disk.kept)" "what is kept"

# --- Unpinned, its time runs, and then it goes when room is needed.
ctl unpin "$pinned"
ctl unpin "$pinned"
expect_equal false "$(stat_of "$pinned" .pinned)" "after unpin"
wait_until 20 is_cached "$pinned" || fail "an unpinned blob is not cached after its time"
ctl put large >/dev/null
expect_fail 1 'no such' ctl get "$pinned"
stop_daemon

# --- Evicting.
start_daemon --set store.unnamed_ttl=1h
ctl get files/held | cmp - named || fail "a named blob"
(($(stat_of files/held .residency.memory_pages) > 0)) || fail "nothing in memory after a read"
ctl evict --tier ram files/held >text
grep -Eq '^files/held: [0-9]+ pages \(.*\) left memory$' text || fail "evict: $(cat text)"
expect_equal '[0,256]' "$(stat_of files/held '.residency | [.memory_pages, .disk_pages]')" "pages after an eviction"
ctl get files/held | cmp - named || fail "a named blob after its eviction"
expect_fail 1 'evict files/held: kept on disk: held by files/held' ctl evict files/held --tier disk
(($(stat_of files/held .residency.memory_pages) > 0)) || fail "evict --tier disk emptied the memory"
ctl --json evict files/held | jq -e '.evicted | length == 1 and (.[0] | .path == "files/held" and .memory_pages > 0
  and (.removed | not) and .disk_bytes == 0 and (.stays | test("held by files/held")))' >/dev/null ||
  fail "JSON of evict"
expect_equal 0 "$(stat_of files/held .residency.memory_pages)" "pages in memory after evict"
ctl put fill1 >/dev/null
fill=sha256:$(sha256_of fill1)
[[ $(stat_of "$fill" .expires) == \"2*Z\" ]] || fail "when a blob without a name expires"
ctl stat "$fill" | grep -Eq '^retention +kept until 2' || fail "stat of a blob without a name"
expect_fail 1 "evict $fill: kept on disk: .*store.unnamed_ttl" ctl evict "$fill" --tier disk
ctl evict "$fill" | grep -q 'left memory; kept on disk: .*store.unnamed_ttl' || fail "evict of a kept blob"
stop_daemon
start_daemon --set store.unnamed_ttl=0s
used=$(status_of .disk.used)
ctl --json evict "$fill" | jq -e '.evicted[0] | .removed and .disk_bytes == 1048576 and .stays == null' >/dev/null ||
  fail "evict of a cached blob"
expect_fail 1 'no such' ctl stat "$fill"
expect_equal $((used - 1048576)) "$(status_of .disk.used)" "what the disk holds"

# --- JSON of the others, and what is not there.
ctl --json pin files/held | jq -e '. == {pinned: ["files/held"]}' >/dev/null || fail "JSON of pin"
ctl --json unpin files/held | jq -e '. == {unpinned: ["files/held"]}' >/dev/null || fail "JSON of unpin"
ctl put fill2 --name d/a >/dev/null
for command in pin unpin evict; do
  expect_fail 1 "^blobcachectl: $command files/none: no such" ctl "$command" files/none
  expect_fail 1 "^blobcachectl: $command origins/a/b: (origins/a: )?no such" ctl "$command" origins/a/b
  expect_fail 1 "^blobcachectl: $command held: no such.*files/held" ctl "$command" held
  for path in / files files/d origins blobs; do
    expect_fail 1 "^blobcachectl: $command $path: .*is a directory; name its files" ctl "$command" "$path"
  done
  expect_fail 2 "^blobcachectl: $command files/../x: bad path" ctl "$command" files/../x
  expect_fail 2 "^blobcachectl: $command : an empty path" ctl "$command" ''
  expect_fail 2 "^blobcachectl: $command: .*PATH" ctl "$command"
done
expect_fail 2 '^blobcachectl: evict --tier: l3: no tier; there are ram, disk and all' ctl evict files/held --tier l3
# One that fails does not keep the others from it.
expect_fail 1 '^blobcachectl: pin files/none: no such' ctl --json pin files/none files/d/a
expect_equal '["files/d/a"]' "$(jq -c .pinned "$TEST_DIR/expect.out")" "what was pinned all the same"
expect_equal true "$(stat_of files/d/a .pinned)" "a pin beside one that failed"
stop_daemon
BLOBCACHE_ENDPOINT=unix:$TEST_DIR/nobody expect_fail 3 'cannot reach' ctl pin files/held
