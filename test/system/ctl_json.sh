#!/bin/bash
# --json on every command: one JSON document on standard output, with the keys that scripts hold on to; errors stay
# one line on stderr.
. "$(dirname "$0")/lib.sh"
need jq

cd "$TEST_DIR"
start_daemon
make_random file 300000
truncate -s 1M zeros
digest=sha256:$(sha256_of file)

# json FILTER ARG...: the command's output must be exactly one document for which FILTER is true.
json() {
  local filter=$1
  shift
  ctl --json "$@" >document || fail "ended with $?: $*"
  expect_equal 1 "$(jq -s length document)" "documents of: $*"
  jq -e "$filter" document >/dev/null || fail "$filter is not true of: $*: $(cat document)"
}

json ". == {digest: \"$digest\", size: 300000, existed: false, name: \"files/a/b\"}" put file --name a/b
json ".existed and .name == null" put file
json ".size == 1048576" put zeros --name zeros

json ". == {path: \"files/a/b\", digest: \"$digest\", size: 300000, offset: 4096, length: 100, output: \"out\"}" \
  get files/a/b -o out --offset 4KiB --length 100
json ".length == 0" get files/a/b -o out --length 0

json '.path == "" and ([.entries[].name] == ["blobs", "files", "origins", "volumes"])' ls
json '[.entries[].name] == ["a", "zeros"] and .entries[0].type == "directory" and .entries[0].digest == null' ls files
json ".entries | length == 1 and (.[0] | .name == \"b\" and .type == \"file\" and .size == 300000
  and .digest == \"$digest\" and (.mode | test(\"^0[0-7]{3}\$\")) and (.uid | type) == \"number\"
  and (.modified | test(\"^2[0-9-]+T[0-9:.]+Z\$\")))" \
  ls files/a
json '.entries[0].name == "files/a/b"' ls files/a/b

json ".path == \"files/a/b\" and .digest == \"$digest\" and .residency.pages == 74 and .residency.disk_pages == 74
  and .node_id > 0 and .links >= 1" stat files/a/b
json '.residency | .pages == 256 and .zero_pages == 256' stat files/zeros
json ".path == \"blobs/${digest#sha256:}\"" stat "$digest"

json ".path == \"files/second\" and .digest == \"$digest\"" name second "$digest"
json '. == {removed: ["files/second"]}' rm files/second
json '. == {removed: ["files/a/b", "files/a"]}' rm files/a/b files/a

json '(.version | test("^[0-9]+\\.[0-9]+\\.[0-9]+$")) and (.pid | type) == "number" and (.started | endswith("Z"))
  and .blobs == 2 and .names == 1 and .unnamed_blobs == 1
  and .unsettled_files == 0 and .blob_bytes == 1348576 and .mounts == []
  and (.listeners | map(.door) | index("grpc") != null and index("nbd") != null)
  and ([.memory, .disk] | all(has("used") and has("budget") and has("kept") and has("evicted")))
  and ([.fuse, .nbd, .grpc] | all(has("requests") and has("bytes_out") and has("bytes_in") and has("errors")
    and has("open")))
  and has("memory_hit_pages") and has("disk_hit_pages") and has("remote_hit_pages") and has("zero_pages")
  and has("checksum_errors")
  and has("disk_errors") and (.disk_out == false) and has("read_errors") and has("disk_read_bytes")
  and has("disk_written_bytes") and .disk_filled == 0 and .source_checksum_errors == 0 and .map_errors == 0
  and .maps_rebuilt == 0 and .pinned_frames == 0 and has("syncs")' status
json ".store_path == \"$STORE\"" status

json '.scrub == {running: false, last: null}' status
json '.path == "" and .objects == 2 and .pages == 330 and .bytes == 303104 and .damaged == [] and .damaged_objects == 0
  and .damaged_pages == 0 and .repaired_maps == 0 and (.seconds | type) == "number"' scrub
json '.path == "files/zeros" and .objects == 1 and .bytes == 0' scrub files/zeros
json '.scrub.last | .path == "files/zeros" and (.started | endswith("Z")) and (.ended | endswith("Z"))' status
json '. == {dry_run: false, items: [], count: 0, bytes: 0}' gc
json ".dry_run and .count == 1 and .bytes == 303104
  and .items == [{kind: \"blob\", name: \"blobs/${digest#sha256:}\", bytes: 303104}]" gc --dry-run --expire-now

json '(.exports | map(.name) | index("files/zeros") != null)
  and (.exports | all(.read_only and (.size | type) == "number"))
  and .truncated == false and .listeners == ["unix:'"$NBD_SOCKET"'"]' exports

json '.store.memory == "64MiB" and .grpc.listen == ["unix:'"$GRPC_SOCKET"'"]' config show
json '.valid and .problems == []' config check "$CONFIG"

if [[ -c /dev/fuse && -w /dev/fuse ]]; then
  mkdir mnt
  mounted="mountpoint: \"$TEST_DIR/mnt\", subtree: \"files\", read_only: true, writeback_cache: false"
  json ". == {$mounted}" mount mnt --read-only --subtree files/
  json ".mounts == [{$mounted, no_exec: false}]" status
  json ". == {mountpoint: \"$TEST_DIR/mnt\"}" umount mnt
fi

# Errors: what was done is in the document, why not is one line on stderr.
ctl put file --name p >/dev/null
expect_fail 1 '^blobcachectl: rm files/none: no such file' ctl --json rm files/none files/p
expect_equal '["files/p"]' "$(jq -c .removed "$TEST_DIR/expect.out")" "what rm removed all the same"
printf '[store]\nmemry = "1"\n' >bad.toml
expect_fail 1 'bad.toml:2: store.memry' ctl --json config check bad.toml
expect_equal false "$(jq .valid "$TEST_DIR/expect.out")" "valid of a bad configuration"
expect_fail 1 '^blobcachectl: stat files/none: no such file' ctl --json stat files/none
expect_equal 0 "$(stat -c %s "$TEST_DIR/expect.out")" "bytes on stdout of a command that failed"
expect_fail 2 'needs -o FILE' ctl --json get files/zeros

# The option may come after the command, too.
ctl status --json | jq -e .pid >/dev/null || fail "--json after the command"

stop_daemon
