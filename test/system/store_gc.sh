#!/bin/bash
# gc removes what nothing names and no more: blobs whose time is over, files that no blob owns; readers go on.
. "$(dirname "$0")/lib.sh"
need jq

cd "$TEST_DIR"
make_random named 2M
make_random fresh 300000
make_random old 2M
start_daemon
ctl put named --name keep/named >/dev/null
ctl put fresh >/dev/null

# Nothing to do.
expect_equal 'removed 0 items, 0 B' "$(ctl gc)" "a store without garbage"
ctl --json gc | jq -e '. == {dry_run: false, items: [], count: 0, bytes: 0}' >/dev/null || fail "JSON without garbage"

# Files that a crash or a person left: a file of no blob with its map and names, half a put, and what is not ours.
key=$(printf 'ab%062d' 7)
id=$(printf '%032d' 5)
head -c 100000 named >"$STORE/objects/ab/$key.$id"
head -c 8192 named >"$STORE/objects/ab/$key.$id.map"
head -c 100 named >"$STORE/objects/ab/$key.$id.names"
head -c 50000 named >"$STORE/tmp/$id"
echo mine >"$STORE/objects/ab/notes"
echo mine >"$STORE/tmp/notes"
echo evidence >"$STORE/objects/ab/$key.$id.damaged"
ctl --json gc --dry-run >json
jq -e '.dry_run and .count == 4 and (.items | map(.kind) | sort) == ["orphan", "orphan", "orphan", "temporary"]
  and .bytes == (.items | map(.bytes) | add) and .bytes >= 158192' json >/dev/null || fail "dry run: $(cat json)"
jq -e --arg name "objects/ab/$key.$id" '.items | map(.name) | index($name) != null' json >/dev/null || fail "names"
[[ -e $STORE/objects/ab/$key.$id && -e $STORE/tmp/$id ]] || fail "a dry run removed something"
ctl gc -n >text
grep -q "objects/ab/$key.$id.map\$" text || fail "text: $(cat text)"
tail -n 1 text | grep -q '^would remove 4 items, ' || fail "text: $(cat text)"
ctl gc | tail -n 1 | grep -q '^removed 4 items, ' || fail "what gc said"
for gone in "objects/ab/$key.$id" "objects/ab/$key.$id.map" "objects/ab/$key.$id.names" "tmp/$id"; do
  [[ ! -e $STORE/$gone ]] || fail "$gone is still there"
done
[[ -e $STORE/objects/ab/notes && -e $STORE/tmp/notes && -e $STORE/objects/ab/$key.$id.damaged ]] ||
  fail "a file that is not the store's is gone"

# A blob without a name keeps its time, unless that is disregarded.
ctl gc >/dev/null
ctl get "sha256:$(sha256_of fresh)" | cmp - fresh || fail "gc took a blob whose time is not over"
would=$(ctl --json gc --dry-run --expire-now | jq -r '.items[].name')
expect_equal "blobs/$(sha256_of fresh)" "$would" "what would go"
ctl get "sha256:$(sha256_of fresh)" | cmp - fresh || fail "a dry run took a blob"
used=$(status_of .disk.used)
ctl --json gc --expire-now | jq -e '.count == 1 and .items[0].kind == "blob" and .bytes == 303104' >/dev/null ||
  fail "gc of what has no name"
expect_fail 1 'no such' ctl get "sha256:$(sha256_of fresh)"
expect_equal $((used - 303104)) "$(status_of .disk.used)" "what the disk tier holds"
expect_equal 0 "$(find "$STORE/objects" -name "$(sha256_of fresh).*" | wc -l)" "files of the blob that went"
stop_daemon

# One whose time is over goes; who reads it meanwhile goes on. The reader is stopped in the middle by a full pipe.
make_random large 32M
start_daemon --set store.unnamed_ttl=0s
ctl put large >/dev/null
mkfifo pipe
ctl get "sha256:$(sha256_of large)" >pipe &
BACKGROUND_PIDS+=($!)
exec 9<pipe
head -c 1000 <&9 >first
ctl gc >text
grep -q "blobs/$(sha256_of large)\$" text || fail "gc: $(cat text)"
expect_fail 1 'no such' ctl stat "sha256:$(sha256_of large)"
cat first - <&9 | cmp - large || fail "the reader of a blob that went"
exec 9<&-
ctl get files/keep/named | cmp - named || fail "a named blob"
ctl scrub | grep -q '^1 object, .*no damage$' || fail "scrub after gc"
stop_daemon
