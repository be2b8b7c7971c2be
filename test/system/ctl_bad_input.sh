#!/bin/bash
# Whatever is typed, the answer is one clear line with the reason, and nothing that was stored is lost.
. "$(dirname "$0")/lib.sh"

cd "$TEST_DIR"
start_daemon
make_random file 10000
hex=$(sha256_of file)
ctl put file --name keep >/dev/null

# refused CODE REGEX ARG...: one line that says why, without a control character in it.
refused() {
  local code=$1 regex=$2
  shift 2
  expect_fail "$code" "^blobcachectl: $regex" "$BIN/blobcachectl" "$@"
  expect_equal 1 "$(wc -l <"$TEST_DIR/expect.err")" "lines on stderr of: $*"
  if LC_ALL=C grep -q '[[:cntrl:]]' "$TEST_DIR/expect.err"; then fail "control characters on stderr: $*"; fi
}

# --- Digests.
for bad in sha256: sha256:12 "sha256:${hex}0" "sha256:${hex%?}" "sha256:${hex%?}g" "sha256:-${hex%?}" \
  "sha256: ${hex%?}"; do
  refused 2 "get .*digest.*hex" get "$bad"
  refused 2 "stat .*digest.*hex" stat "$bad"
  refused 2 "name .*digest.*hex" name x "$bad"
  refused 2 "put --digest: .*digest.*hex" put file --digest "$bad"
done
refused 2 'name .*digest' name x ''
refused 2 'name .*digest' name x "md5:$hex"
refused 1 'get sha256:.*no such' get "sha256:$(printf '%064d' 7)"
refused 1 'get blobs/12.*' get blobs/12
ctl get "sha256:${hex^^}" | cmp - file || fail "upper-case hex digits"

# --- Paths.
for bad in files/../keep files/a/.. ../x files/./keep files//keep ./keep ..; do
  refused 2 'get .*bad path' get "$bad"
  refused 2 'stat .*bad path' stat "$bad"
  refused 2 'ls .*bad path' ls "$bad"
  refused 2 'rm .*bad path' rm "$bad"
done
for bad in a/../b ../b a/./b a//b files/../b files/a/; do
  refused 2 'put --name: bad path' put file --name "$bad"
  refused 2 'name .*bad path' name "$bad" "sha256:$hex"
done
for command in get stat ls rm; do refused 2 "$command .*an empty path" "$command" ''; done
for bad in '' / files files/ /files/; do
  refused 2 'put --name: an empty name' put file --name "$bad"
  refused 2 'name .*an empty name' name "$bad" "sha256:$hex"
done
for bad in blobs "blobs/$hex" origins/x volumes/x; do
  refused 2 'put --name: .*files/' put file --name "$bad"
done
refused 2 'put --name: bad path .*255' put file --name "$(printf 'n%.0s' {1..256})"
refused 2 'put --name: bad path .*4096' put file --name "$(printf 'nnnnnnnnn/%.0s' {1..500})x"
refused 2 'put --name: .*UTF-8' put file --name $'bad\xff'
refused 2 'get .*UTF-8' get $'files/\x80'
refused 1 'get files/.*no such' get $'files/line\nbreak\e[31m'
refused 1 'get files: is a directory' get files
refused 1 'get /files/: files: is a directory' get /files/
refused 1 'get /: is a directory' get /
refused 1 'get files: it is a directory' get files --length 0
refused 1 'rm files' rm files
refused 1 'rm blobs' rm blobs
refused 1 'put .*director|put .*' put file --name keep/below

# --- Ranges.
for bad in -1 -0 1x x '' 1.5.5 18446744073709551616 99999999999999999999999 '1 2' 0x10 1e3; do
  refused 2 'get files/keep: --offset: ' get files/keep --offset "$bad"
  refused 2 'get files/keep: --length: ' get files/keep --length "$bad"
done
refused 2 'get files/keep: --offset and --length together overflow' \
  get files/keep --offset 18446744073709551615 --length 1
refused 1 'get files/keep: offset 10001 is past the end' get files/keep --offset 10001
refused 1 'get files/keep: offset 10001 is past the end' get files/keep --offset 10001 --length 0
refused 1 'get files/keep: offset 18446744073709551615 is past the end' get files/keep --offset 18446744073709551615
expect_equal 0 "$(ctl get files/keep --offset 10000 | wc -c)" "bytes from the very end on"
expect_equal 1 "$(ctl get files/keep --offset 9999 --length 1 | wc -c)" "bytes of the last byte"
# A range that passes the end is no shorter range: nothing is written, and what was there stays.
echo before >out
for output in '-' out new; do
  refused 1 'get files/keep: 2 bytes from offset 9999 on pass the end; the file has 10000 bytes' \
    get files/keep --offset 9999 --length 2 -o "$output"
  expect_equal 0 "$(stat -c %s expect.out)" "bytes on standard output of a range that passes the end"
done
refused 1 'get files/keep: 10001 bytes from offset 0 on pass the end' get files/keep --length 10001 -o out
expect_equal before "$(cat out)" "an output after a get that failed"
[[ ! -e new ]] || fail "a range that passes the end made its output"
expect_equal "" "$(find . -maxdepth 1 -name '.*.part')" "temporary files"

# --- Mountpoints and configurations.
refused 2 'mount .*an empty path' mount ''
refused 1 'mount file: .*not a directory' mount file
printf '[store]\npath = 5\n[nbd]\nlisten = ["x"]\n' >bad.toml
expect_fail 1 '^blobcachectl: config check: bad.toml:2: store.path' ctl config check bad.toml
grep -q '^blobcachectl: config check: bad.toml:4: nbd.listen' expect.err || fail "the second problem is not told"
printf '[store\n' >bad.toml
refused 1 'config check: bad.toml:1' config check bad.toml
refused 1 'config check: .*' config check "$TEST_DIR"

# --- Tokens.
printf 'two words\n' >token
refused 1 'status: token file token: ' --endpoint tcp:127.0.0.1:1 --token-file token status
refused 1 'status: .*nowhere' --endpoint tcp:127.0.0.1:1 --token-file nowhere status

# --- Nothing was lost, and nothing came into being.
expect_equal "keep" "$(ctl ls files)" "names after all that"
expect_equal "$hex" "$(ctl ls blobs)" "blobs after all that"
ctl get files/keep | cmp - file || fail "the bytes after all that"

stop_daemon
