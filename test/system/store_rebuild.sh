#!/bin/bash
# A store whose catalog is lost does not start, and blobcached --rebuild brings every blob and name back.
. "$(dirname "$0")/lib.sh"
need jq getfattr setfattr

# picture DIRECTORY: a line for every file and directory beneath it, with digest, size, owner, mode, and when a name
# was bound.
picture() {
  local entry path
  while read -r entry; do
    path=$1/$(jq -r .name <<<"$entry")
    jq -c --arg path "$path" '{path: $path, size, digest, mode, uid, gid} +
      if .digest != null and ($path | startswith("files/")) then {modified} else {} end' <<<"$entry"
    [[ $(jq -r .type <<<"$entry") != directory ]] || picture "$path"
  done < <(ctl --json ls "$1" | jq -c '.entries[]')
}
whole_picture() { { picture files && picture blobs; } | sort; }
lose_catalog() { rm "$STORE"/catalog.sqlite*; }
object_of() { find "$STORE/objects" -name "$1.*" ! -name '*.map' ! -name '*.names' -print -quit; }

make_random "$TEST_DIR/small" 5000
make_random "$TEST_DIR/large" 9M
make_random "$TEST_DIR/unnamed" 70000
make_random "$TEST_DIR/other" 70001
truncate -s 3M "$TEST_DIR/sparse"
printf 'end' >>"$TEST_DIR/sparse"
: >"$TEST_DIR/empty"
odd=$'a b%\n\xe2\x98\x83\\"'

start_daemon
for file in small large sparse empty; do ctl put "$TEST_DIR/$file" --name "dir/$file" >/dev/null; done
ctl put "$TEST_DIR/unnamed" >/dev/null
ctl put "$TEST_DIR/small" --name "deep/er/$odd" >/dev/null
ctl name files/second "sha256:$(sha256_of "$TEST_DIR/large")"
ctl name files/third "sha256:$(sha256_of "$TEST_DIR/large")"
ctl put "$TEST_DIR/small" --name rebound >/dev/null
ctl put "$TEST_DIR/other" --name rebound >/dev/null
ctl put "$TEST_DIR/other" --name removed >/dev/null
# More names than an attribute holds, and a new copy of what has them.
for ((i = 0; i < 24; i++)); do
  ctl name "files/many/$(printf 'a name that is rather long, so that few of them are many %03d' "$i")" \
    "sha256:$(sha256_of "$TEST_DIR/other")"
done
ctl put "$TEST_DIR/other" --name many/anew >/dev/null
ctl rm "files/many/$(printf 'a name that is rather long, so that few of them are many %03d' 20)"
other=$(object_of "$(sha256_of "$TEST_DIR/other")")
[[ -s $other.names ]] || fail "no names file beside $other"
expect_equal 1 "$(find "$STORE/objects" -name '*.names' | wc -l)" "names files"
ctl rm files/removed
ctl rm files/third
others=false
if [[ $(id -u) == 0 ]] && command -v setpriv >/dev/null; then
  # Somebody else's name, which must stay his.
  others=true
  chmod 0755 "$TEST_DIR"
  chmod o+x "$(dirname "$TEST_DIR")"
  chmod 0666 "$GRPC_SOCKET"
  install -m 0755 "$BIN/blobcachectl" "$TEST_DIR/his-ctl"
  setpriv --reuid 65534 --regid 65534 --clear-groups "$TEST_DIR/his-ctl" put - --name his <"$TEST_DIR/other" >/dev/null
fi
whole_picture >"$TEST_DIR/before"
if $others; then
  grep -q '"path":"files/his".*"uid":65534' "$TEST_DIR/before" || fail "files/his has the wrong owner"
fi
stop_daemon

# A catalog that is whole is not made anew, nor one that a daemon uses.
expect_fail 1 '^blobcached: rebuild: .*catalog is whole.*move' daemon_once --rebuild
start_daemon
expect_fail 1 '^blobcached: rebuild: .*in use by process' daemon_once --rebuild
stop_daemon

lose_catalog
expect_fail 1 'blobcached --rebuild' daemon_once
[[ ! -e $STORE/catalog.sqlite ]] || fail "the refused start made a catalog"
daemon_once --rebuild >"$TEST_DIR/out"
expect_equal 1 "$(wc -l <"$TEST_DIR/out")" "lines of a rebuild"
grep -q 'left out: 0 blobs; names lost: 0$' "$TEST_DIR/out" || fail "the summary: $(cat "$TEST_DIR/out")"
expect_fail 1 'catalog is whole' daemon_once --rebuild

start_daemon
whole_picture >"$TEST_DIR/after"
expect_same "$TEST_DIR/before" "$TEST_DIR/after" "the tree after a rebuild"
for file in small large sparse empty; do
  ctl get "files/dir/$file" -o "$TEST_DIR/back"
  expect_same "$TEST_DIR/$file" "$TEST_DIR/back" "files/dir/$file after a rebuild"
done
ctl get "sha256:$(sha256_of "$TEST_DIR/unnamed")" -o "$TEST_DIR/back"
expect_same "$TEST_DIR/unnamed" "$TEST_DIR/back" "a blob without a name after a rebuild"
expect_equal 0 "$(status_of .checksum_errors)" "checksum errors after a rebuild"

# Killed, and damaged in the middle of the catalog.
kill_daemon
printf 'no catalog at all' | dd of="$STORE/catalog.sqlite" conv=notrunc status=none
rm -f "$STORE/catalog.sqlite-wal"
expect_fail 1 'blobcached --rebuild' daemon_once
daemon_once --rebuild >"$TEST_DIR/out"
compgen -G "$STORE/catalog.sqlite.damaged-*" >/dev/null || fail "the damaged catalog was not kept"
start_daemon
whole_picture >"$TEST_DIR/after"
expect_same "$TEST_DIR/before" "$TEST_DIR/after" "the tree after a second rebuild"
stop_daemon

# A damaged object is told and left out; a description that is none costs the names alone.
lose_catalog
large=$(sha256_of "$TEST_DIR/large")
object=$(object_of "$large")
printf 'X' | dd of="$object" bs=1 seek=123456 conv=notrunc status=none
if cmp -s "$object" "$TEST_DIR/large"; then
  printf 'Y' | dd of="$object" bs=1 seek=123456 conv=notrunc status=none
fi
setfattr -n user.blobcache -v garbage "$(object_of "$(sha256_of "$TEST_DIR/empty")")"
expect_fail 1 "^blobcached: blobs/$large: left out: .*does not match its digest" daemon_once --rebuild
expect_equal 2 "$(wc -l <"$TEST_DIR/expect.err")" "problems that a rebuild prints"
grep -q 'left out: 1 blobs; names lost: 1$' "$TEST_DIR/expect.out" || fail "the summary: $(cat "$TEST_DIR/expect.out")"
[[ -e $object.damaged && ! -e $object ]] || fail "the damaged object was not set aside"
# A names file that is damaged costs the line.
lose_catalog
other=$(object_of "$(sha256_of "$TEST_DIR/other")")
cp "$other.names" "$TEST_DIR/names"
truncate -s -5 "$other.names"
expect_fail 1 "^blobcached: blobs/$(sha256_of "$TEST_DIR/other"): it had more names than its files tell; .*cut short" \
  daemon_once --rebuild
grep -q 'names lost: 2$' "$TEST_DIR/expect.out" || fail "the summary: $(cat "$TEST_DIR/expect.out")"
cp "$TEST_DIR/names" "$other.names"
start_daemon
expect_fail 1 'no such' ctl stat files/dir/large
expect_fail 1 'no such' ctl stat files/dir/empty
ctl get "sha256:$(sha256_of "$TEST_DIR/empty")" -o "$TEST_DIR/back"
ctl get files/dir/sparse -o "$TEST_DIR/back"
expect_same "$TEST_DIR/sparse" "$TEST_DIR/back" "files/dir/sparse beside a damaged object"
# Content that was put again takes the place of what was left out.
ctl put "$TEST_DIR/large" --name dir/large >/dev/null
empty_is_described() {
  getfattr --absolute-names --only-values -n user.blobcache "$(object_of "$(sha256_of "$TEST_DIR/empty")")" |
    grep -q '^size 0$'
}
wait_until 60 empty_is_described || fail "a start did not mend a description after a rebuild"
stop_daemon
[[ -e $object.damaged ]] || fail "a start removed what a rebuild had set aside"
lose_catalog
daemon_once --rebuild >/dev/null
start_daemon
ctl get files/dir/large -o "$TEST_DIR/back"
expect_same "$TEST_DIR/large" "$TEST_DIR/back" "files/dir/large, put again, after one more rebuild"
stop_daemon
