#!/bin/bash
# An origin's file becomes a blob with import: whole, verified and under its name in one step, or not at all; twice at a
# time is one transfer. Of a directory and of an NBD server.
# limit: 300 seconds
. "$(dirname "$0")/lib.sh"
need jq nbdkit

SHARE=$TEST_DIR/share
mkdir -p "$SHARE/sub" "$TEST_DIR/images"
make_random "$SHARE/sub/model" 20M
make_random "$TEST_DIR/images/base.img" 9M
UPSTREAM=$TEST_DIR/upstream.sock
nbdkit -f -U "$UPSTREAM" file dir="$TEST_DIR/images" &
BACKGROUND_PIDS+=("$!")
SLOW=$TEST_DIR/slow.sock
# Some 20 reads a second.
nbdkit -f -U "$SLOW" --filter=delay file dir="$TEST_DIR/images" rdelay=400ms &
BACKGROUND_PIDS+=("$!")
wait_until 20 test -S "$UPSTREAM" || fail "nbdkit does not listen"
wait_until 20 test -S "$SLOW" || fail "nbdkit does not listen"

write_config
cat >>"$CONFIG" <<TOML

[[origin]]
name = "share"
type = "dir"
path = "$SHARE"

[[origin]]
name = "golden"
type = "nbd"
url = "nbd+unix:///?socket=$UPSTREAM"

[[origin]]
name = "slow"
type = "nbd"
url = "nbd+unix:///?socket=$SLOW"
immutable = true
connections = 1
TOML
start_daemon
model=$(sha256_of "$SHARE/sub/model")
base=$(sha256_of "$TEST_DIR/images/base.img")

# Of a directory and of a server, with the digest and without.
said=$(ctl import share/sub/model --name models/m --digest "sha256:$model")
expect_equal "sha256:$model" "$said" "what import prints"
ctl get files/models/m -o "$TEST_DIR/got"
expect_same "$SHARE/sub/model" "$TEST_DIR/got" "an imported file"
expect_equal "sha256:$base" "$(ctl import origins/golden/base.img)" "of an NBD server"
ctl get "sha256:$base" -o "$TEST_DIR/got"
expect_same "$TEST_DIR/images/base.img" "$TEST_DIR/got" "an imported export"
expect_equal "[\"origins/share/sub/model\",\"sha256:$model\",20971520,true,\"files/again\"]" \
  "$(ctl --json import share/sub/model --name again | jq -c '[.path, .digest, .size, .existed, .name]')" "JSON"
expect_equal "$model" "$(ctl --json stat files/again | jq -r .digest | cut -d: -f2)" "the second name"
# It is a blob of its own: its origin may go.
rm -r "$SHARE/sub"
ctl get files/models/m -o "$TEST_DIR/got"
expect_equal "$model" "$(sha256_of "$TEST_DIR/got")" "an imported file whose origin has it no more"

# What fails leaves nothing.
blobs() { status_of .blobs; }
mkdir "$SHARE/sub"
make_random "$SHARE/sub/other" 3M
before=$(blobs)
expect_fail 1 'digest|SHA-256' ctl import share/sub/other --name other --digest "sha256:$model"
expect_fail 1 'no such' ctl stat files/other
expect_fail 1 'no such' ctl import share/none
expect_fail 1 'directory' ctl import share/sub
expect_fail 1 'no such' ctl import nowhere/x
expect_fail 2 '--digest' ctl import share/sub/other --digest none
expect_fail 2 '--name' ctl import share/sub/other --name volumes/x
expect_equal "$before" "$(blobs)" "blobs after imports that failed"

# Two at a time are one transfer.
bytes_read() { ctl --json status | jq '.origins[] | select(.name == "slow") | .bytes_read'; }
(ctl import slow/base.img --name s >"$TEST_DIR/first") &
first=$!
BACKGROUND_PIDS+=("$first")
some_read() { (($(bytes_read) > 0)); }
wait_until 30 some_read || fail "nothing is read"
(ctl import slow/base.img --name s >"$TEST_DIR/second") &
second=$!
BACKGROUND_PIDS+=("$second")
wait "$first" || fail "the first import fails"
wait "$second" || fail "the second import fails"
expect_equal "sha256:$base" "$(cat "$TEST_DIR/first")" "the first one's digest"
expect_equal "sha256:$base" "$(cat "$TEST_DIR/second")" "the second one's digest"
expect_equal 9437184 "$(bytes_read)" "bytes that came from the origin"

# On a terminal one sees how far it is.
if command -v script >/dev/null; then
  make_random "$TEST_DIR/images/seen.img" 5M
  script -qec "'$BIN/blobcachectl' import slow/seen.img" /dev/null >"$TEST_DIR/terminal" </dev/null
  grep -q 'seen.img.*%' "$TEST_DIR/terminal" || fail "no progress bar on a terminal"
  grep -q "sha256:$(sha256_of "$TEST_DIR/images/seen.img")" "$TEST_DIR/terminal" || fail "no digest on a terminal"
fi

# Ctrl-C ends it in the daemon, too.
ctl rm files/s
ctl evict origins/slow/base.img >/dev/null
make_random "$TEST_DIR/images/more.img" 9M
before=$(blobs)
read_before=$(bytes_read)
env --default-signal=INT "$BIN/blobcachectl" import slow/more.img --name s >"$TEST_DIR/first" 2>&1 &
first=$!
BACKGROUND_PIDS+=("$first")
more_read() { (($(bytes_read) > read_before)); }
wait_until 30 more_read || fail "nothing is read"
kill -INT "$first"
status=0
wait "$first" || status=$?
expect_equal 130 "$status" "the status of an import that was interrupted"
writers() { find "$STORE/tmp" -type f | wc -l; }
none_is_left() { (($(writers) == 0)); }
wait_until 20 none_is_left || fail "a file of an import that was interrupted is left"
expect_equal "$before" "$(blobs)" "blobs after an import that was interrupted"
expect_fail 1 'no such' ctl stat files/s
stop_daemon
